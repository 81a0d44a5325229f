"""A student as the network that `backends.training` trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from ase import Atoms

from ipip_ext.backends.mace import convolution
from ipip_ext.backends.mace.graphs import Graph, collate, graph_of, in_planes, species_index
from ipip_ext.backends.mace.model import DTYPES, Student
from ipip_ext.backends.recorded import Room


class MaceNetwork:
    """A copy of a student, with the faster convolution."""

    def __init__(self, student: Student, device: str) -> None:
        self.spec = student.spec
        self.dtype = DTYPES[student.spec.config.dtype]
        self.device = device
        self.module: torch.nn.Module = student.clone().module.to(device)
        convolution.install(self.module)

    def graph(self, frame: Atoms) -> Graph:
        """Return the graph of `frame`, within the student's cut-off."""
        return graph_of(frame, species_index(self.spec.atomic_numbers), self.spec.config.r_max_A, self.dtype)

    def energy_zero(self, frame: Atoms) -> float:
        """Return the student's energy zeros, eV, summed over the atoms of `frame` in double precision."""
        zeros = dict(zip(self.spec.atomic_numbers, self.spec.e0s_eV, strict=True))
        return sum(zeros[int(z)] for z in frame.numbers)

    def evaluate(self, graphs: Sequence[Graph], *, training: bool, stress: bool) -> Mapping[str, torch.Tensor]:
        """Return MACE's own output, which has the names and units that are asked for; the zeros stay outside."""
        batch = collate(graphs, len(self.spec.atomic_numbers), self.device)
        output: dict[str, torch.Tensor] = self.module(batch, training=training, compute_stress=stress)
        found = _without_zeros(output)
        return found | {"stress": in_planes(output["stress"], graphs)} if stress else found

    def size(self, graph: Graph) -> tuple[int, int]:
        """Return how many atoms and edges a graph has."""
        return len(graph.species), graph.edge_index.shape[1]

    def filled(self, graphs: Sequence[Graph], room: Room) -> Mapping[str, torch.Tensor]:
        """Return `graphs` as a batch of `room`'s shape on the CPU, which ends with atoms without neighbours."""
        sizes = [self.size(graph) for graph in graphs]
        n_atoms, n_edges = (sum(size[axis] for size in sizes) for axis in (0, 1))
        filling = [_alone(room.atoms - n_atoms, room.edges - n_edges, self.spec.config.r_max_A, self.dtype)]
        empty = [_alone(0, 0, self.spec.config.r_max_A, self.dtype)] * (room.frames - len(graphs) - 1)
        return collate([*graphs, *filling, *empty], len(self.spec.atomic_numbers), "cpu")

    def evaluate_filled(self, batch: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Return the same for such a batch."""
        output: dict[str, torch.Tensor] = self.module(
            {**batch, "positions": batch["positions"].detach()}, training=True
        )
        return _without_zeros(output)

    def finished(self, weights: Mapping[str, torch.Tensor]) -> Student:
        """Return the student with these weights, all of them trainable, with MACE's own convolution."""
        self.module.load_state_dict(weights)
        convolution.remove(self.module)
        return Student(self.spec, self.module.cpu().eval().requires_grad_(True))


def _without_zeros(output: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return output | {"energy": output["interaction_energy"]}


def _alone(n_atoms: int, n_edges: int, r_max_A: float, dtype: torch.dtype) -> Graph:
    """Return atoms without neighbours; edges are from the first to an image of itself beyond the cut-off."""
    return Graph(
        species=torch.zeros(n_atoms, dtype=torch.long),
        positions=torch.zeros(n_atoms, 3, dtype=dtype),
        cell=torch.eye(3, dtype=dtype),
        edge_index=torch.zeros(2, n_edges, dtype=torch.long),
        unit_shifts=torch.zeros(n_edges, 3, dtype=dtype),
        shifts=torch.full((n_edges, 3), 2 * r_max_A, dtype=dtype),
    )
