"""CHGNet in batches: a graph a frame, one forward pass for many. The only importer of chgnet."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from chgnet.model import CHGNet
from chgnet.model.dynamics import CHGNetCalculator
from pymatgen.core import Lattice, Structure

from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.base import FrameFailed, Prediction
from ipip_ext.potentials.batches import cut
from ipip_ext.units import EV_PER_A3_PER_GPA

_MAX_ATOMS = {"cpu": 500, "cuda": 5_000}


class ChgnetPotential:
    """A CHGNet model as a batched Potential.

    Batches are cut by atoms, so that memory is bounded whatever the frames' sizes.
    """

    batched = True

    def __init__(self, model: Any, name: str, device: str) -> None:
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
                    model = CHGNet.from_file(str(source))
                else:
                    model = CHGNet.load(model_name=source, use_device=device, verbose=False)
        except Exception as error:
            raise CalculatorError(
                f"chgnet: {source} can't be loaded: {type(error).__name__}: {error}; give a file that CHGNet saved."
            ) from error
        return cls(model, name, device)

    def compute(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Prediction]:
        """Return energies and forces; stress costs half again. Raises FrameFailed for a frame without a graph."""
        graphs = [self.graph(index, atoms, stress) for index, atoms in enumerate(frames)]
        task = "efs" if stress else "ef"
        results: list[Prediction] = []
        for chunk in cut(graphs, lambda graph: len(graph.atomic_number), self.max_atoms):
            outputs = _quietly(self.model.predict_graph, chunk, task=task, batch_size=len(chunk))
            outputs = [outputs] if isinstance(outputs, dict) else outputs
            results.extend(self._prediction(output) for output in outputs)
        return results

    def calculator(self) -> CHGNetCalculator:
        """Return CHGNet's own calculator, which computes stress and magnetic moments too, asked or not."""
        with contextlib.redirect_stdout(io.StringIO()):
            return CHGNetCalculator(self.model, use_device=self.device, on_isolated_atoms="ignore")

    def graph(self, index: int, atoms: Atoms, stress: bool) -> Any:
        """Return CHGNet's graph of frame `index`. Raises FrameFailed where that, or the stress asked for, can't be."""
        if stress and not atoms.pbc.all():
            raise FrameFailed(index, "stress needs pbc in all three directions")
        try:
            lattice = Lattice(atoms.cell.array, pbc=tuple(bool(p) for p in atoms.pbc))
            structure = Structure(lattice, atoms.numbers, atoms.positions, coords_are_cartesian=True)
            return self.model.graph_converter(structure)
        except Exception as error:
            raise FrameFailed(index, f"{self.name}: no graph: {type(error).__name__}: {error}") from error

    def _prediction(self, output: dict[str, Any]) -> Prediction:
        forces = np.asarray(output["f"], dtype=float)
        scale = len(forces) if self.model.is_intensive else 1
        stress = np.asarray(output["s"], dtype=float) * EV_PER_A3_PER_GPA if "s" in output else None
        return Prediction(float(output["e"]) * scale, forces, stress)


def _quietly(function: Any, *args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch grumbles about the way CHGNet makes its volumes
        return function(*args, **kwargs)
