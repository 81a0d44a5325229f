"""A MACE module as a batched Potential."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.backends.mace._mace import torchsim_model
from ipip_ext.backends.mace.evaluator import Evaluator
from ipip_ext.backends.mace.graphs import Batch, Graph, collate, graph_of, in_planes
from ipip_ext.backends.mace.session import MaceSession
from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.ase_calculator import PotentialCalculator
from ipip_ext.potentials.base import FrameFailed, Prediction
from ipip_ext.potentials.faults import require_sound


class MacePotential(Evaluator):
    """Any MACE module with an energy and forces: of frames, in batches, and of MD, in sessions. See `Evaluator`."""

    batched = True

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

    def _graphs(self, frames: Sequence[Atoms]) -> list[Graph]:
        graphs = []
        for index, atoms in enumerate(frames):
            try:
                graphs.append(self.graph(atoms))
            except ValueError as error:
                raise FrameFailed(index, f"{self.name}: {error}") from error
        return graphs

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
