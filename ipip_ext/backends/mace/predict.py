"""A MACE module as a batched Potential."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.ase_calculator import PotentialCalculator
from ipip_ext.backends.mace.graphs import Batch, Graph, collate, graph_of, species_index
from ipip_ext.errors import DataError
from ipip_ext.potential import Prediction

_MAX_ATOMS = {"cpu": 1_000, "cuda": 20_000}


class MacePotential:
    """Any MACE module with an energy and forces, evaluated in batches.

    Batches are cut by atoms, so that memory is bounded whatever the frames' sizes.
    """

    batched = True

    def __init__(self, module: torch.nn.Module, name: str, device: str) -> None:
        self.name = name
        self.device = device
        self.n_parameters: int | None = sum(p.numel() for p in module.parameters())
        self.module = module.to(device).eval().requires_grad_(False)
        self.dtype = next(module.parameters()).dtype
        self.r_max_A = float(module.r_max)  # type: ignore[arg-type]
        self.index = species_index([int(z) for z in module.atomic_numbers])  # type: ignore[union-attr]
        self.max_atoms = _MAX_ATOMS["cpu" if device == "cpu" else "cuda"]

    def compute(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Prediction]:
        """Return energies and forces; raises DataError for an element the model was not trained on."""
        graphs = [self.graph(atoms) for atoms in frames]
        results: list[Prediction] = []
        for chunk in self._chunks(graphs):
            output = self.forward(collate(chunk, len(self.index), self.device), stress)
            results.extend(_split(output, [len(graph.species) for graph in chunk]))
        return results

    def descriptors(self, frames: Sequence[Atoms]) -> NDArray[np.float64]:
        """Return the mean over atoms of the invariant node features, (n_frames, n_features)."""
        graphs = [self.graph(atoms) for atoms in frames]
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
        """Return the graph of `atoms`; raises DataError for an unknown element."""
        try:
            return graph_of(atoms, self.index, self.r_max_A, self.dtype)
        except KeyError:
            unknown = sorted(set(atoms.get_chemical_symbols()) - set(_symbols(self.index)))
            raise DataError(
                f"{self.name} does not know {', '.join(unknown)}; it was trained on {', '.join(_symbols(self.index))}."
            ) from None

    def forward(self, batch: Batch, stress: bool) -> Batch:
        """Return MACE's output for `batch`."""
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

    def _chunks(self, graphs: Sequence[Graph]) -> Iterator[list[Graph]]:
        chunk: list[Graph] = []
        atoms = 0
        for graph in graphs:
            if chunk and atoms + len(graph.species) > self.max_atoms:
                yield chunk
                chunk, atoms = [], 0
            chunk.append(graph)
            atoms += len(graph.species)
        if chunk:
            yield chunk


def _split(output: Batch, sizes: list[int]) -> list[Prediction]:
    energy = output["energy"].detach().double().cpu().numpy()
    forces = np.split(output["forces"].detach().double().cpu().numpy(), np.cumsum(sizes)[:-1])
    stress = output.get("stress")
    tensors = [None] * len(sizes) if stress is None else list(stress.detach().double().cpu().numpy())
    return [Prediction(float(e), f, s) for e, f, s in zip(energy, forces, tensors, strict=True)]


def _symbols(index: object) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in sorted(index)]  # type: ignore[call-overload]
