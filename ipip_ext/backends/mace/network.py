"""A student as the network that `backends.training` trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from ase import Atoms

from ipip_ext.backends.mace import convolution
from ipip_ext.backends.mace.graphs import Graph, collate, graph_of, in_planes, species_index
from ipip_ext.backends.mace.model import DTYPES, Student


class MaceNetwork:
    """A copy of a student, with the faster convolution where it is on a CPU."""

    def __init__(self, student: Student, device: str) -> None:
        self.spec = student.spec
        self.dtype = DTYPES[student.spec.config.dtype]
        self.device = device
        self.module: torch.nn.Module = student.clone().module.to(device)
        if device == "cpu":
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
        found = output | {"energy": output["interaction_energy"]}
        return found | {"stress": in_planes(output["stress"], graphs)} if stress else found

    def finished(self, weights: Mapping[str, torch.Tensor]) -> Student:
        """Return the student with these weights, all of them trainable, with MACE's own convolution."""
        self.module.load_state_dict(weights)
        convolution.remove(self.module)
        return Student(self.spec, self.module.cpu().eval().requires_grad_(True))
