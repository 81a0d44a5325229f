"""Distances that tell a physical structure from a broken one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ipip_ext.potentials.cells import closed
from ipip_ext.potentials.neighbours import neighbours as by_boxes

BOND_FACTOR = 1.25
"""A bond is shorter than this times the sum of covalent radii (those of Cordero et al., Dalton Trans. 2832 (2008))."""

DENSITY_RADIUS_A = 5.0
"""Radius of the sphere about an atom in which `density` counts."""

_BOXES, _BOXES_PER_ATOM = 32768, 16
"""Boxes that a search may look into however few atoms there are, and for each atom."""


class Pairs(NamedTuple):
    """Pairs of atoms within a cut-off, each both ways: indices i and j, (n_pairs,), and distances in Angstrom.

    Periodic images count, an atom's own too, so a pair of indices may stand there many times.
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    distances_A: NDArray[np.float64]


class Neighbours(NamedTuple):
    """Pairs as above, sorted by i, with the vectors from i to j in Angstrom, (n_pairs, 3)."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    vectors_A: NDArray[np.float64]


def pairs(atoms: Atoms, cutoff_A: float) -> Pairs:
    """Return the pairs nearer than `cutoff_A`; the cell may be smaller than that, and its cost is that of the atoms."""
    if _is_sparse(atoms, cutoff_A):
        i, j, vectors_A = _by_tree(atoms, cutoff_A)
        return Pairs(i, j, np.linalg.norm(vectors_A, axis=1))
    return Pairs(*by_boxes("ijd", atoms.positions, atoms.cell.array, atoms.pbc, cutoff_A))


def neighbours(atoms: Atoms, cutoff_A: float) -> Neighbours:
    """Return the pairs nearer than `cutoff_A` with their vectors, as `pairs` finds them."""
    if _is_sparse(atoms, cutoff_A):
        return _by_tree(atoms, cutoff_A)
    return Neighbours(*by_boxes("ijD", atoms.positions, atoms.cell.array, atoms.pbc, cutoff_A))


def heights(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distances between opposite faces of a cell of full rank, (3,) Angstrom."""
    return np.asarray(1 / np.linalg.norm(np.linalg.inv(cell), axis=0))


def _is_sparse(atoms: Atoms, cutoff_A: float) -> bool:
    """Return whether a search by boxes, as wide as the cut-off, would look into too many: it divides a periodic cell
    however empty that is.
    """
    n_boxes = float(np.prod(np.maximum(heights(closed(atoms.cell.array, atoms.pbc)) / cutoff_A, 1.0)))
    return n_boxes > _BOXES + _BOXES_PER_ATOM * len(atoms)


def _by_tree(atoms: Atoms, cutoff_A: float) -> Neighbours:
    """Find pairs by a tree of all atoms and of the images that are near a periodic face."""
    places, owners = _with_images(atoms, cutoff_A)
    n_atoms = len(atoms)
    home = places[:n_atoms]
    near = cKDTree(home).sparse_distance_matrix(cKDTree(places), cutoff_A, output_type="coo_matrix")
    i, image = near.row.astype(np.int64), near.col.astype(np.int64)
    keep = image != i
    order = np.lexsort((image[keep], i[keep]))
    i, image = i[keep][order], image[keep][order]
    return Neighbours(i, owners[image], places[image] - home[i])


def _with_images(atoms: Atoms, cutoff_A: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return where atoms and those of their images stand that any atom may have within the cut-off, and whose they are.

    Atoms come first, each within the cell as far as that is periodic.
    """
    cell = closed(atoms.cell.array, atoms.pbc)
    fractions = atoms.positions @ np.linalg.inv(cell)
    fractions -= np.floor(fractions) * atoms.pbc
    owners = np.arange(len(atoms))
    reach = cutoff_A / heights(cell)
    for axis in np.flatnonzero(atoms.pbc):
        shells = int(np.ceil(reach[axis]))
        shifts = [shift for shift in range(-shells, shells + 1) if shift]
        moved = [fractions + shift * np.eye(3)[axis] for shift in shifts]
        inside = [(m[:, axis] >= -reach[axis]) & (m[:, axis] <= 1 + reach[axis]) for m in moved]
        fractions = np.concatenate([fractions, *(m[k] for m, k in zip(moved, inside, strict=True))])
        owners = np.concatenate([owners, *(np.asarray(owners)[k] for k in inside)])
    return fractions @ cell, owners


def closest_approach(atoms: Atoms, below: float) -> float:
    """Return the smallest distance in units of the sum of covalent radii, or inf if none is below `below`.

    Periodic images count, an atom's own too.
    """
    radii = covalent_radii[atoms.numbers]
    i, j, distances = pairs(atoms, max(1.0, 2 * float(radii.max()) * below))
    closest = float((distances / (radii[i] + radii[j])).min()) if len(i) else math.inf
    return closest if closest < below else math.inf


def n_fragments(n_atoms: int, near: Pairs, gap_A: float) -> int:
    """Return how many parts `n_atoms` atoms fall into, parts being `gap_A` or more apart."""
    joined = near.distances_A < gap_A
    graph = coo_array((np.ones(joined.sum(), dtype=bool), (near.i[joined], near.j[joined])), shape=(n_atoms, n_atoms))
    return int(connected_components(graph, directed=False, return_labels=False))


def longest_bond(atoms: Atoms) -> float:
    """Return how long a bond between these atoms may be, Angstrom."""
    return 2 * BOND_FACTOR * float(covalent_radii[atoms.numbers].max())


def coordination_numbers(atoms: Atoms, near: Pairs) -> NDArray[np.int64]:
    """Return the number of bonds of each atom, (n,). near: all pairs within `longest_bond`, or more."""
    radii = covalent_radii[atoms.numbers]
    bonds = near.distances_A < BOND_FACTOR * (radii[near.i] + radii[near.j])
    return np.bincount(near.i[bonds], minlength=len(atoms))


def density(n_atoms: int, near: Pairs) -> float:
    """Return the number of atoms per Angstrom^3 where atoms are, which vacuum in the cell does not change.

    The mean over atoms of the number density in a sphere about each, itself included, with the soft
    edge of Behler's cut-off function (J. Chem. Phys. 134, 074106 (2011)): it is smooth where shells of
    neighbours cross the edge, and a lone atom has one too.
    near: all pairs within `DENSITY_RADIUS_A`, or more.
    """
    distances = near.distances_A[near.distances_A < DENSITY_RADIUS_A]
    others = 0.5 * float(np.sum(1 + np.cos(np.pi * distances / DENSITY_RADIUS_A))) / n_atoms
    volume_A3 = 4 * np.pi * DENSITY_RADIUS_A**3 * (1 / 6 - 1 / np.pi**2)
    return float((1 + others) / volume_A3)
