"""CHGNet in batches: a graph a frame, one forward pass for many.

Energies of elements never enter the network (float32 has steps of 0.06 eV at an all-electron code's totals): they are
added in double precision outside of it.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from chgnet.model import CHGNet
from chgnet.model.composition_model import AtomRef
from chgnet.model.dynamics import CHGNetCalculator
from pymatgen.core import Lattice, Structure

from ipip_ext.errors import CalculatorError, StageFailed
from ipip_ext.potentials.base import Array, FrameFailed, Prediction
from ipip_ext.potentials.batches import cut
from ipip_ext.potentials.cells import boxed, origins, per_cell
from ipip_ext.potentials.faults import fault_of, require_sound, stress_fault
from ipip_ext.units import EV_PER_A3_PER_GPA

_MAX_ATOMS = {"cpu": 500, "cuda": 5_000}
_VACUUM_A = 12.0
"""Along open directions, between a structure and its image: twice CHGNet's cut-off."""


class ChgnetPotential:
    """A CHGNet model as a batched Potential.

    Batches are cut by atoms, so that memory is bounded whatever the frames' sizes.
    zeros_eV: (n_elements,) energy of each element, from hydrogen on; of a kind of model that has none, 0.
    """

    batched = True

    def __init__(self, model: Any, name: str, device: str) -> None:
        self.zeros_eV = _zeros_of(model)
        self.model = model.to(device).eval()
        self.name = name
        self.device = device
        self.n_parameters: int | None = int(model.n_params)
        self.max_atoms = _MAX_ATOMS["cpu" if device == "cpu" else "cuda"]
        # MD of a slab may tear an atom off: that is for the guard to judge, frame by frame
        model.graph_converter.set_isolated_atom_response("ignore")

    @classmethod
    def load(cls, source: str | Path, device: str, name: str) -> ChgnetPotential:
        """Load a model by name (str) or from a file (Path). Raises CalculatorError if it is broken."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                if isinstance(source, Path):
                    model = _from_file(source)
                else:
                    model = CHGNet.load(model_name=source, use_device=device, verbose=False)
        except Exception as error:
            raise CalculatorError(
                f"chgnet: {source} can't be loaded: {type(error).__name__}: {error}; give a file that CHGNet saved."
            ) from error
        return cls(model, name, device)

    def compute(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Prediction]:
        """Return energies and forces; stress costs half again. Raises FrameFailed for a frame without a graph."""
        require_sound(frames, stress=stress)
        rooms = [_room(atoms) for atoms in frames]
        graphs = [self._graph(index, room) for index, room in enumerate(rooms)]
        outputs: list[dict[str, Any]] = []
        for chunk in cut(graphs, lambda graph: len(graph.atomic_number), self.max_atoms):
            with bare(self.model):
                found = _quietly(
                    self.model.predict_graph, chunk, task="efs" if stress else "ef", batch_size=len(chunk),
                    return_site_energies=self.model.mlp_first,
                )  # fmt: skip
            outputs += [found] if isinstance(found, dict) else found
        return [self._prediction(*each) for each in zip(frames, rooms, outputs, strict=True)]

    def calculator(self) -> CHGNetCalculator:
        """Return CHGNet's own calculator, which computes stress and magnetic moments too, asked or not."""
        with contextlib.redirect_stdout(io.StringIO()):
            return ChgnetCalculator(self)

    def graph(self, index: int, atoms: Atoms, stress: bool) -> Any:
        """Return CHGNet's graph of frame `index`. Raises FrameFailed where that, or the stress asked for, can't be."""
        if (why := fault_of(atoms) or (stress_fault(atoms) if stress else None)) is not None:
            raise FrameFailed(index, why)
        return self._graph(index, _room(atoms))

    def energies(self, atoms: Atoms, output: dict[str, Any]) -> tuple[float, Array | None]:
        """Return the energy, eV, and each atom's, (n_atoms,), from what the `bare` model says."""
        zeros = self.zeros_eV[atoms.numbers - 1]
        if "site_energies" not in output:
            scale = len(atoms) if self.model.is_intensive else 1
            return float(output["e"]) * scale + float(zeros.sum()), None
        own = np.asarray(output["site_energies"], dtype=float)
        return float(own.sum() + zeros.sum()), own + zeros

    def _graph(self, index: int, room: Atoms) -> Any:
        n_known = self.model.atom_embedding.embedding.num_embeddings
        if unknown := sorted({chemical_symbols[z] for z in room.numbers if z > n_known}):
            raise FrameFailed(index, f"{self.name}: no graph: it does not know {', '.join(unknown)}")
        try:
            lattice = Lattice(room.cell.array, pbc=tuple(bool(p) for p in room.pbc))
            structure = Structure(lattice, room.numbers, room.positions, coords_are_cartesian=True)
            return self.model.graph_converter(structure)
        except Exception as error:
            raise FrameFailed(index, f"{self.name}: no graph: {type(error).__name__}: {error}") from error

    def _prediction(self, atoms: Atoms, room: Atoms, output: dict[str, Any]) -> Prediction:
        energy, energies = self.energies(atoms, output)
        forces = np.asarray(output["f"], dtype=float)
        tensor = np.asarray(output["s"], dtype=float) * EV_PER_A3_PER_GPA if "s" in output else None
        return Prediction(energy, forces, None if tensor is None else per_cell(tensor, atoms, room), energies)


class ChgnetCalculator(CHGNetCalculator):  # type: ignore[misc]
    """CHGNet's own calculator for structures that need no cell, with energies in double precision."""

    atoms: Atoms | None

    def __init__(self, potential: ChgnetPotential) -> None:
        super().__init__(
            potential.model, use_device=potential.device, on_isolated_atoms="ignore",
            return_site_energies=potential.model.mlp_first,
        )  # fmt: skip
        self.potential = potential

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = None, task: Any = "efsm"
    ) -> None:  # fmt: skip
        """Fill `results`; stress only where there is one. Raises StageFailed, which names the atom, for NaN."""
        given: Atoms = self.atoms if atoms is None else atoms
        if (why := fault_of(given)) is not None:
            raise StageFailed(f"{self.potential.name}: {why}")
        room = _room(given)
        with bare(self.model):
            _quietly(super().calculate, room, properties, system_changes, task)
        self.atoms = given.copy()
        scale = len(given) if self.model.is_intensive else 1
        said = {"e": self.results["energy"] / scale} | (
            {"site_energies": self.results.pop("energies")} if "energies" in self.results else {}
        )
        energy, energies = self.potential.energies(given, said)
        self.results |= {"energy": energy, "free_energy": energy}
        if energies is not None:
            self.results["energies"] = energies
        if stress_fault(given) is None:
            self.results["stress"] = per_cell(self.results["stress"], given, room)
        else:
            self.results.pop("stress", None)


@contextlib.contextmanager
def bare(model: Any) -> Iterator[None]:
    """Let `model` give energies less those of elements for a while, where it has any that `_zeros_of` knows."""
    own = model.composition_model
    if has_zeros(model):
        model.composition_model = None
    try:
        yield
    finally:
        model.composition_model = own


def has_zeros(model: Any) -> bool:
    """Tell whether `model` adds an energy for each element."""
    return isinstance(model.composition_model, AtomRef)


def _zeros_of(model: Any) -> Array:
    """Return the energies of elements, which a model of ours holds in double; CHGNet itself takes float32 alone."""
    own = model.composition_model
    if not has_zeros(model):
        return np.zeros(118)
    found = np.array(own.fc.weight.detach().cpu().reshape(-1).tolist())
    own.float()
    return found


def _from_file(path: Path) -> Any:
    """Return the model that CHGNet or `chgnet_tuning.save` saved; the latter's energies of elements stay double."""
    stored = torch.load(path, map_location="cpu", weights_only=False)["model"]
    model = CHGNet.from_dict(stored)
    if has_zeros(model):
        weight = stored["state_dict"]["composition_model.fc.weight"]
        model.composition_model.fc.weight = torch.nn.Parameter(weight, requires_grad=False)
    return model


def _room(atoms: Atoms) -> Atoms:
    """Return the same atoms as CHGNet takes them: near the origin, in a box along open directions, and in a
    right-handed cell, since it divides stress by a signed volume.
    """
    origin = origins(atoms.positions.mean(axis=0)[None], atoms.pbc[None])
    moved = atoms.copy()
    moved.positions -= origin
    moved = boxed(moved, _VACUUM_A)
    if np.linalg.det(moved.cell.array) < 0:
        moved.set_cell(-moved.cell.array)
    return moved


def _quietly(function: Any, *args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch grumbles about the way CHGNet makes its volumes
        return function(*args, **kwargs)
