"""Frames as graphs, and batches of graphs as the dict that MACE's forward takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from ipip_ext.backends.mace._mace import get_neighborhood

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Graph:
    """One frame.

    species: (n,) index of each atom's element. positions: (n, 3) A. cell: (3, 3) A.
    edge_index: (2, n_edges), sender and receiver. unit_shifts: (n_edges, 3) cells crossed.
    shifts: (n_edges, 3) A.
    """

    species: torch.Tensor
    positions: torch.Tensor
    cell: torch.Tensor
    edge_index: torch.Tensor
    unit_shifts: torch.Tensor
    shifts: torch.Tensor


def species_index(atomic_numbers: Sequence[int]) -> Mapping[int, int]:
    """Return the index of each atomic number in a model that knows `atomic_numbers`."""
    return {number: index for index, number in enumerate(sorted(atomic_numbers))}


def graph_of(atoms: Atoms, index: Mapping[int, int], r_max_A: float, dtype: torch.dtype) -> Graph:
    """Return the graph of `atoms` with all neighbours within `r_max_A`.

    Raises KeyError for an element that the model does not know.
    """
    edges, shifts, unit_shifts, cell = get_neighborhood(
        positions=atoms.positions,
        cutoff=r_max_A,
        pbc=tuple(bool(p) for p in atoms.pbc),
        cell=np.array(atoms.cell.array, dtype=float),
    )
    return Graph(
        species=torch.tensor([index[int(z)] for z in atoms.numbers]),
        positions=torch.as_tensor(atoms.positions).to(dtype),
        cell=torch.as_tensor(cell).to(dtype),
        edge_index=torch.as_tensor(edges, dtype=torch.long),
        unit_shifts=torch.as_tensor(unit_shifts).to(dtype),
        shifts=torch.as_tensor(shifts).to(dtype),
    )


def collate(graphs: Sequence[Graph], n_species: int, device: str) -> Batch:
    """Return `graphs` as one disconnected graph, in the dict that MACE's forward takes.

    MACE's own collation touches every one of AtomicData's 25 fields in Python, which takes longer
    than evaluating a small cell; these seven are all that forward reads.
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
    }
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}
