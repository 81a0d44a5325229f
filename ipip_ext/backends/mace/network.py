"""A student as the network that `backends.training` trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from ase import Atoms

from ipip_ext.backends.mace import convolution
from ipip_ext.backends.mace.graphs import Graph, collate, graph_of, species_index
from ipip_ext.backends.mace.model import DTYPES, Student


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

    def evaluate(self, graphs: Sequence[Graph], *, training: bool, stress: bool) -> Mapping[str, torch.Tensor]:
        """Return MACE's own output, which has the names and units that are asked for."""
        batch = collate(graphs, len(self.spec.atomic_numbers), self.device)
        output: Mapping[str, torch.Tensor] = self.module(batch, training=training, compute_stress=stress)
        return output

    def finished(self, weights: Mapping[str, torch.Tensor]) -> Student:
        """Return the student with these weights, all of them trainable, with MACE's own convolution."""
        self.module.load_state_dict(weights)
        convolution.remove(self.module)
        return Student(self.spec, self.module.cpu().eval().requires_grad_(True))
