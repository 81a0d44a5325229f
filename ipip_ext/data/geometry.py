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

from ipip_ext.potentials.neighbours import neighbours

BOND_FACTOR = 1.25
"""A bond is shorter than this times the sum of covalent radii (those of Cordero et al., Dalton Trans. 2832 (2008))."""

DENSITY_RADIUS_A = 5.0
"""Radius of the sphere about an atom in which `density` counts."""


class Pairs(NamedTuple):
    """Pairs of atoms within a cut-off, each both ways: indices i and j, (n_pairs,), and distances in Angstrom.

    Periodic images count, an atom's own too, so a pair of indices may stand there many times.
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    distances_A: NDArray[np.float64]


def pairs(atoms: Atoms, cutoff_A: float) -> Pairs:
    """Return the pairs nearer than `cutoff_A`; the cell may be smaller than that."""
    return Pairs(*neighbours("ijd", atoms.positions, atoms.cell.array, atoms.pbc, cutoff_A))


def closest_approach(atoms: Atoms, below: float) -> float:
    """Return the smallest distance in units of the sum of covalent radii, or inf if none is below `below`.

    Periodic images count, an atom's own too.
    """
    radii = covalent_radii[atoms.numbers]
    # a search divides the cell into boxes as wide as the cut-off: a tiny one would make millions
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
