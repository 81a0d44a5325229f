"""Frames as graphs, and batches of graphs as the dict that MACE's forward takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from ase import Atoms

from ipip_ext.potentials.cells import in_plane, origins, spacious
from ipip_ext.potentials.neighbours import neighbours

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Graph:
    """One frame.

    species: (n,) index of each atom's element. positions: (n, 3) A, of `cells.origins`. cell: (3, 3) A.
    edge_index: (2, n_edges), sender and receiver. unit_shifts: (n_edges, 3) cells crossed.
    shifts: (n_edges, 3) A. plane: (3, 3), projection on the directions that have a stress; None where all have.
    inputs: what the model asks for beyond atoms, by MACE's names.
    """

    species: torch.Tensor
    positions: torch.Tensor
    cell: torch.Tensor
    edge_index: torch.Tensor
    unit_shifts: torch.Tensor
    shifts: torch.Tensor
    plane: torch.Tensor | None = None
    inputs: Mapping[str, float] = field(default_factory=dict)


def species_index(atomic_numbers: Sequence[int]) -> Mapping[int, int]:
    """Return the index of each atomic number in a model that knows `atomic_numbers`."""
    return {number: index for index, number in enumerate(sorted(atomic_numbers))}


def graph_of(
    atoms: Atoms, index: Mapping[int, int], r_max_A: float, dtype: torch.dtype,
    inputs: Mapping[str, float] | None = None,
) -> Graph:  # fmt: skip
    """Return the graph of `atoms` with all neighbours within `r_max_A`.

    Raises KeyError for an element that the model does not know, ValueError for a periodic cell without volume.
    """
    origin = origins(atoms.positions.mean(axis=0)[None], atoms.pbc[None])
    cell = spacious(atoms.cell.array, atoms.pbc)
    senders, receivers, crossed = neighbours("ijS", atoms.positions, cell, atoms.pbc, r_max_A)
    plane = in_plane(cell, atoms.pbc)
    return Graph(
        species=torch.tensor([index[int(z)] for z in atoms.numbers]),
        positions=torch.as_tensor(atoms.positions - origin).to(dtype),
        cell=torch.as_tensor(cell).to(dtype),
        edge_index=torch.as_tensor(np.stack((senders, receivers)), dtype=torch.long),
        unit_shifts=torch.as_tensor(crossed).to(dtype),
        shifts=torch.as_tensor(crossed @ cell).to(dtype),
        plane=None if plane is None else torch.as_tensor(plane).to(dtype),
        inputs=inputs or {},
    )


def collate(graphs: Sequence[Graph], n_species: int, device: str) -> Batch:
    """Return `graphs` as one disconnected graph, in the dict that MACE's forward takes.

    MACE's own collation touches every one of AtomicData's 25 fields in Python, which takes longer
    than evaluating a small cell; these are all that forward reads.
    """
    sizes = torch.tensor([len(graph.species) for graph in graphs])
    ptr = torch.cat([torch.zeros(1, dtype=torch.long), torch.cumsum(sizes, 0)])
    edges = [graph.edge_index + start for graph, start in zip(graphs, ptr.tolist(), strict=False)]
    species = torch.cat([graph.species for graph in graphs])
    positions = torch.cat([graph.positions for graph in graphs])
    batch = {
        "positions": positions,
        "node_attrs": torch.nn.functional.one_hot(species, n_species).to(positions.dtype),
        "cell": torch.cat([graph.cell for graph in graphs]),
        "edge_index": torch.cat(edges, dim=1),
        "unit_shifts": torch.cat([graph.unit_shifts for graph in graphs]),
        "shifts": torch.cat([graph.shifts for graph in graphs]),
        "batch": torch.repeat_interleave(torch.arange(len(graphs)), sizes),
        "ptr": ptr,
        "head": torch.zeros(len(graphs), dtype=torch.long),
        **input_tensors([graph.inputs for graph in graphs], positions.dtype),
    }
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


def input_tensors(inputs: Sequence[Mapping[str, float]], dtype: torch.dtype) -> Batch:
    """Return the inputs of some frames by name, (n_frames,) each."""
    return {key: torch.tensor([each[key] for each in inputs], dtype=dtype) for key in inputs[0]}


def in_planes(stress: torch.Tensor, graphs: Sequence[Graph]) -> torch.Tensor:
    """Return stresses, (n_frames, 3, 3), of the directions alone in which each frame has one."""
    if all(graph.plane is None for graph in graphs):
        return stress
    every = torch.eye(3, dtype=stress.dtype)
    onto = torch.stack([every if graph.plane is None else graph.plane for graph in graphs]).to(stress.device)
    return onto @ stress @ onto
