"""A MACE module as a batched Potential."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ipip_ext.backends.capture import can_record
from ipip_ext.backends.mace import convolution, exact, states
from ipip_ext.backends.mace._mace import torchsim_model
from ipip_ext.backends.mace.graphs import Batch, Graph, collate, graph_of, in_planes, species_index
from ipip_ext.backends.mace.session import MaceSession
from ipip_ext.errors import CalculatorError, DataError
from ipip_ext.potentials.ase_calculator import PotentialCalculator
from ipip_ext.potentials.base import FrameFailed, Prediction
from ipip_ext.potentials.faults import require_sound

_MAX_ATOMS = {"cpu": 1_000, "cuda": 20_000}
_CACHED_BYTES = 10e6  # of one number an edge and channel; a batch of more of them costs up to half as much again


class MacePotential:
    """Any MACE module with an energy and forces, evaluated in batches.

    Batches are cut by atoms, so that memory is bounded whatever the frames' sizes. Energies are in double precision
    whatever the module's dtype. The module is taken over: it is no more for saving.
    zeros_eV: energy zeros of its species, in their order, where they are known better than the module holds them.
    may_record: whether sessions record their steps (`replay`), as they do on a GPU.
    Raises CalculatorError for a module that asks for inputs which are not ours to give.
    """

    batched = True

    def __init__(
        self, module: torch.nn.Module, name: str, device: str, zeros_eV: Sequence[float] | None = None
    ) -> None:  # fmt: skip
        self.name = name
        self.specs = states.specs_of(module, name)
        self.device = device
        self.n_parameters: int | None = sum(p.numel() for p in module.parameters())
        self.module = module.to(device).eval().requires_grad_(False)
        convolution.install(self.module)
        exact.install(self.module, zeros_eV)
        self.dtype = next(module.parameters()).dtype
        self.r_max_A = float(module.r_max)  # type: ignore[arg-type]
        self.index = species_index([int(z) for z in module.atomic_numbers])  # type: ignore[union-attr]
        self.max_atoms = _max_atoms(module) if device == "cpu" else _MAX_ATOMS["cuda"]
        self.may_record = can_record(device)

    def compute(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Prediction]:
        """Return energies, each atom's too, and forces.

        Raises DataError for an element the model was not trained on, FrameFailed for a frame without a graph.
        """
        require_sound(frames, stress=stress)
        results: list[Prediction] = []
        for chunk in self._chunks(self._graphs(frames)):
            output = self.forward(collate(chunk, len(self.index), self.device), stress)
            if stress:
                output["stress"] = in_planes(output["stress"], chunk)
            results.extend(_split(output, [len(graph.species) for graph in chunk]))
        return results

    def descriptors(self, frames: Sequence[Atoms]) -> NDArray[np.float64]:
        """Return the mean over atoms of the invariant node features, (n_frames, n_features)."""
        require_sound(frames)
        graphs = self._graphs(frames)
        rows: list[NDArray[np.float64]] = []
        for chunk in self._chunks(graphs):
            batch = collate(chunk, len(self.index), self.device)
            features = self.module(batch, compute_force=False)["node_feats"].double()
            total = torch.zeros(len(chunk), features.shape[1], dtype=torch.float64, device=features.device)
            total.index_add_(0, batch["batch"], features)
            counts = (batch["ptr"][1:] - batch["ptr"][:-1]).unsqueeze(1)
            rows.append((total / counts).detach().cpu().numpy()[:, self._invariant(features.shape[1])])
        return np.concatenate(rows)

    def calculator(self) -> PotentialCalculator:
        """Return an ASE calculator around this potential."""
        return PotentialCalculator(self)

    def graph(self, atoms: Atoms) -> Graph:
        """Return the graph of `atoms`; raises DataError for an unknown element, ValueError for charge or spin."""
        self.require_known(atoms)
        return graph_of(atoms, self.index, self.r_max_A, self.dtype, self.inputs(atoms))

    def inputs(self, atoms: Atoms) -> dict[str, float]:
        """Return what the model asks for beyond atoms. Raises ValueError for what it can't embed."""
        return states.values(atoms, self.specs)

    def _graphs(self, frames: Sequence[Atoms]) -> list[Graph]:
        graphs = []
        for index, atoms in enumerate(frames):
            try:
                graphs.append(self.graph(atoms))
            except ValueError as error:
                raise FrameFailed(index, f"{self.name}: {error}") from error
        return graphs

    def require_known(self, atoms: Atoms) -> None:
        """Raise DataError for an element that the model was not trained on."""
        unknown = sorted(set(atoms.numbers.tolist()) - set(self.index))
        if unknown:
            words = [", ".join(chemical_symbols[z] for z in numbers) for numbers in (unknown, sorted(self.index))]
            raise DataError(f"{self.name} does not know {words[0]}; it was trained on {words[1]}.")

    def session(self, frames: Sequence[Atoms]) -> MaceSession:
        """Return a session of `frames`: their energies and forces at many sets of positions, for MD."""
        return MaceSession(self, frames)

    def torchsim_model(self, *, stress: bool) -> Any:
        """Return MACE's own torch-sim model of the same module.

        Raises ImportError where torch-sim is not installed, CalculatorError for a model that takes charge and spin.
        """
        if self.specs:
            raise CalculatorError(f"{self.name}: engine torchsim gives it no {' and '.join(self.specs)}; take ase.")
        return torchsim_model(self.module, torch.device(self.device), self.dtype, stress)

    def forward(self, batch: Batch, stress: bool) -> Batch:
        """Return MACE's output for `batch`, with `exact`'s energies."""
        output: Batch = self.module(batch, training=False, compute_force=True, compute_stress=stress)
        return output

    def _invariant(self, n_features: int) -> list[int]:
        # node_feats stands layer after layer: scalars first in each, vectors and higher behind them
        columns: list[int] = []
        start = 0
        for product in self.module.products:  # type: ignore[union-attr]
            irreps = product.linear.irreps_out
            scalars = sum(mul for mul, irrep in irreps if irrep.l == 0)
            columns.extend(range(start, start + scalars))
            start += irreps.dim
        assert start == n_features
        return columns

    def parts(self, sizes: Sequence[int]) -> list[range]:
        """Return which frames, of so many atoms each, go into one batch after the other; batches of like size."""
        if not len(sizes):
            return []
        atoms = np.cumsum(sizes)
        n_batches = int(np.ceil(atoms[-1] / self.max_atoms))
        batch = (atoms - np.asarray(sizes) / 2) * n_batches // atoms[-1]  # by where a frame's middle falls
        ends = [*(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sizes)]
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def _chunks(self, graphs: Sequence[Graph]) -> Iterator[list[Graph]]:
        for part in self.parts([len(graph.species) for graph in graphs]):
            yield [graphs[index] for index in part]


def _split(output: Batch, sizes: list[int]) -> list[Prediction]:
    ends = np.cumsum(sizes)[:-1]
    energy, forces = _host(output["energy"]), np.split(_host(output["forces"]), ends)
    stress, atoms = output.get("stress"), output.get("node_energy")
    tensors = None if stress is None else _host(stress)
    energies = None if atoms is None else np.split(_host(atoms), ends)
    none = [None] * len(sizes)
    rows = zip(energy, forces, none if tensors is None else tensors, energies or none, strict=True)
    return [Prediction(float(total), f, s, e) for total, f, s, e in rows]


def _host(values: torch.Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().double().cpu().numpy())


def _max_atoms(module: torch.nn.Module) -> int:
    """Return how many atoms make a batch on a CPU: as many as its caches hold."""
    wide, neighbors = 1, 1.0
    for interaction in module.interactions:  # type: ignore[union-attr]
        irreps = getattr(interaction.conv_tp, "irreps_out", None)  # not there in other layouts than e3nn's
        wide = max(wide, 1 if irreps is None else irreps.dim)
        neighbors = max(neighbors, float(interaction.avg_num_neighbors))
    size = next(module.parameters()).element_size()
    return int(np.clip(_CACHED_BYTES / (size * wide * neighbors), 1, _MAX_ATOMS["cpu"]))
