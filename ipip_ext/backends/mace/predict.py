"""A MACE module as a batched Potential."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.backends.home import Home
from ipip_ext.backends.mace._mace import torchsim_model
from ipip_ext.backends.mace.evaluator import Evaluator
from ipip_ext.backends.mace.features import invariant_columns
from ipip_ext.backends.mace.graphs import Batch, Graph, collate, graph_of, in_planes
from ipip_ext.backends.mace.session import MaceSession
from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.ase_calculator import PotentialCalculator
from ipip_ext.potentials.base import FrameFailed, Prediction
from ipip_ext.potentials.faults import require_sound


class MacePotential(Evaluator):
    """Any MACE module with an energy and forces: of frames, in batches, and of MD, in sessions. See `Evaluator`."""

    batched = True
    home: Home | None = None
    """What it has learnt, where that is known; told of by `compute` at next to no cost."""

    @cached_property
    def columns(self) -> list[int]:
        """Which of MACE's node features are invariant."""
        return invariant_columns(self.module)

    def compute(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Prediction]:
        """Return energies, each atom's too, forces, and home distances where the home is known.

        Raises DataError for an element the model was not trained on, FrameFailed for a frame without a graph.
        """
        require_sound(frames, stress=stress)
        if not len(frames):
            return []
        results: list[Prediction] = []
        features: list[NDArray[np.float64]] = []
        for chunk in self._chunks(self._graphs(frames)):
            output = self.forward(collate(chunk, len(self.index), self.device), stress)
            if stress:
                output["stress"] = in_planes(output["stress"], chunk)
            results.extend(_split(output, [len(graph.species) for graph in chunk]))
            features += [] if self.home is None else [self._invariant(output["node_feats"]).cpu().numpy()]
        return results if self.home is None else _at_home(self.home, frames, results, np.concatenate(features))

    def descriptors(self, frames: Sequence[Atoms]) -> NDArray[np.float64]:
        """Return the mean over atoms of the invariant node features, (n_frames, n_features)."""
        return np.concatenate(
            [
                (_sums(features, batch) / (batch["ptr"][1:] - batch["ptr"][:-1]).unsqueeze(1)).cpu().numpy()
                for features, batch in self._featured(frames)
            ]
        )

    def features(self, frames: Sequence[Atoms]) -> list[NDArray[np.float64]]:
        """Return the invariant node features of each atom, (n_atoms, n_features) a frame."""
        found: list[NDArray[np.float64]] = []
        for features, batch in self._featured(frames):
            found.extend(np.split(features.cpu().numpy(), batch["ptr"][1:-1].cpu().numpy()))
        return found

    def home_distances(self, frames: Sequence[Atoms]) -> list[NDArray[np.float64]]:
        """Return each atom's distance from what was learnt, (n_atoms,) a frame (`potentials.home`); asks for a home."""
        assert self.home is not None
        features = self.features(frames)
        return [self.home.distances(frame.numbers, own) for frame, own in zip(frames, features, strict=True)]

    def _featured(self, frames: Sequence[Atoms]) -> Iterator[tuple[torch.Tensor, Batch]]:
        """Yield the invariant node features of one batch after the other, (n_atoms, n_features), in double."""
        require_sound(frames)
        for chunk in self._chunks(self._graphs(frames)):
            batch = collate(chunk, len(self.index), self.device)
            yield self._invariant(self.module(batch, compute_force=False)["node_feats"]), batch

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

    def _invariant(self, features: torch.Tensor) -> torch.Tensor:
        return features.detach().double()[:, self.columns]

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


def _at_home(
    home: Home, frames: Sequence[Atoms], results: Sequence[Prediction], features: NDArray[np.float64]
) -> list[Prediction]:  # fmt: skip
    """Return the predictions with home distances. features: of all atoms, end to end."""
    distances = home.distances(np.concatenate([frame.numbers for frame in frames]), features)
    ends = np.cumsum([len(frame) for frame in frames])[:-1]
    own = np.split(distances, ends)
    return [replace(result, home_distances=d) for result, d in zip(results, own, strict=True)]


def _sums(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return sums over the atoms of each frame."""
    return values.new_zeros(len(batch["ptr"]) - 1, values.shape[1]).index_add_(0, batch["batch"], values)


def _host(values: torch.Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().double().cpu().numpy())
