"""Energies and forces of pair and three-body potentials that are linear in their coefficients."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.potentials.base import Array
from ipip_ext.potentials.neighbours import neighbours

_FIRST_A = 1.0
"""Centre of the innermost radial function. Below it there are no labels, and all of them fade out."""


@dataclass(frozen=True)
class Columns:
    """What a unit of each of k coefficients adds to the labels of a frame.

    energy_eV: (k,), eV. forces_eV_per_A: (k, n_atoms, 3), eV/Angstrom.
    """

    energy_eV: Array
    forces_eV_per_A: Array


@dataclass(frozen=True)
class _Edges:
    """Neighbours of all atoms within the cut-off, sorted by the atom in the centre; periodic images are edges too."""

    center: NDArray[np.int_]
    neighbour: NDArray[np.int_]
    distance_A: Array
    unit: Array


def pair(atoms: Atoms, symbols: Sequence[str], r_max_A: float, n_basis: int) -> Columns:
    """Return a pair potential for every pair of elements in `symbols`, `n_basis` radial functions each."""
    edges = _edges(atoms, r_max_A)
    value, slope = radial(edges.distance_A, r_max_A, n_basis)
    kinds = list(itertools.combinations_with_replacement(range(len(symbols)), 2))
    kind_of = np.zeros((len(symbols), len(symbols)), dtype=int)
    for kind, (a, b) in enumerate(kinds):
        kind_of[a, b] = kind_of[b, a] = kind
    species = np.array([list(symbols).index(s) for s in atoms.get_chemical_symbols()])
    kind = kind_of[species[edges.center], species[edges.neighbour]]
    energy = np.zeros((len(kinds), n_basis))
    np.add.at(energy, kind, value / 2)  # each pair is two edges
    forces = np.zeros((len(kinds), len(atoms), n_basis, 3))
    np.add.at(forces, (kind, edges.center), slope[:, :, None] * edges.unit[:, None, :])
    return Columns(energy.ravel(), forces.swapaxes(1, 2).reshape(-1, len(atoms), 3))


def angular(atoms: Atoms, r_max_A: float, n_basis: int, max_ell: int) -> Columns:
    """Return the power spectrum of every atom's neighbour density, blind to the elements, as energies.

    For radial functions a <= b and degree l the energy is the sum over atoms i and their neighbours j, k of
    R_a(r_ij) R_b(r_ik) P_l(cos jik) (Bartok, Kondor and Csanyi, Phys. Rev. B 87, 184115 (2013); linear in it as in
    Thompson et al., J. Comput. Phys. 285, 316 (2015)).
    """
    edges = _edges(atoms, r_max_A)
    value, slope = radial(edges.distance_A, r_max_A, n_basis)
    first, second = np.triu_indices(n_basis)
    energy = np.zeros((max_ell + 1, len(first)))
    forces = np.zeros((len(atoms), max_ell + 1, len(first), 3))
    ends = np.searchsorted(edges.center, np.arange(len(atoms) + 1))
    for i, rows in enumerate(map(slice, ends[:-1], ends[1:])):
        unit = edges.unit[rows]
        density, gradient = _power(value[rows], slope[rows], unit, edges.distance_A[rows], max_ell)
        energy += density[:, first, second]
        pull = gradient[:, :, first, second]
        np.add.at(forces, edges.neighbour[rows], -pull)
        forces[i] += pull.sum(axis=0)
    return Columns(energy.ravel(), forces.transpose(1, 2, 0, 3).reshape(-1, len(atoms), 3))


def radial(distance_A: Array, r_max_A: float, n_basis: int) -> tuple[Array, Array]:
    """Return Gaussians times a cosine cut-off, and their slopes, (n, n_basis) each.

    Gaussians are local, so where there was no label to fit to there is no correction either.
    """
    centers, width = np.linspace(_FIRST_A, r_max_A, n_basis, endpoint=False, retstep=True)
    x = (distance_A[:, None] - centers) / width
    bump = np.exp(-(x**2) / 2)
    phase = np.pi * distance_A[:, None] / r_max_A
    cut, fall = (1 + np.cos(phase)) / 2, -np.sin(phase) * np.pi / (2 * r_max_A)
    return bump * cut, bump * (fall - cut * x / width)


def _power(value: Array, slope: Array, unit: Array, distance_A: Array, max_ell: int) -> tuple[Array, Array]:
    """Return the power spectrum of one atom, (l, a, b), and its gradient with each neighbour, (j, l, a, b, 3)."""
    cosine = unit @ unit.T
    legendre, rise = _legendre(cosine, max_ell)
    seen = legendre @ value
    turn = np.einsum("ljk,ka,kx->ljax", rise, value, unit)
    turn -= np.einsum("ljk,jk,ka->lja", rise, cosine, value)[..., None] * unit[:, None, :]
    half = np.einsum("ja,jx,ljb->jlabx", slope, unit, seen)
    half += np.einsum("ja,ljbx->jlabx", value / distance_A[:, None], turn)
    return value.T @ seen, half + half.swapaxes(2, 3)


def _legendre(x: Array, max_ell: int) -> tuple[Array, Array]:
    """Return the Legendre polynomials of degrees 0..max_ell and their derivatives, degree first."""
    value, slope = [np.ones_like(x), x], [np.zeros_like(x), np.ones_like(x)]
    for ell in range(1, max_ell):
        value.append(((2 * ell + 1) * x * value[ell] - ell * value[ell - 1]) / (ell + 1))
        slope.append(slope[ell - 1] + (2 * ell + 1) * value[ell])
    return np.array(value[: max_ell + 1]), np.array(slope[: max_ell + 1])


def _edges(atoms: Atoms, r_max_A: float) -> _Edges:
    center, neighbour, distance, vector = neighbours("ijdD", atoms.positions, atoms.cell.array, atoms.pbc, r_max_A)
    order = np.argsort(center, kind="stable")
    unit = vector[order] / distance[order, None]
    return _Edges(center[order], neighbour[order], distance[order], unit)
