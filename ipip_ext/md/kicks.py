"""Starts strained and pushed out of their basin, which MD at any bearable temperature may never leave in time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import get_distances

from ipip_ext.potentials.base import Array
from ipip_ext.potentials.cells import closed
from ipip_ext.recipe.walk import Explore

CLOSEST = 0.75
"""Nearest two atoms may come by a push, in units of the sum of covalent radii."""

VACUUM_A = 6.0
"""A cell holds vacuum along a vector if no atom stands in a layer this thick across it: more than sheets of layered
crystals are apart, less than the vacuum that anyone leaves around a slab."""

_TRIES = 30


def filled_directions(atoms: Atoms) -> list[int]:
    """Return the cell vectors, 0 to 2, along which matter goes on: periodic, and without vacuum.

    Vacuum is an empty layer of `VACUUM_A` between the planes that the other two vectors span.
    """
    inverse = np.linalg.inv(closed(atoms.cell.array, atoms.pbc))
    heights_A = 1 / np.linalg.norm(inverse, axis=0)
    places = (atoms.positions @ inverse) % 1.0
    found = []
    for axis in np.flatnonzero(atoms.pbc):
        along = np.sort(places[:, axis])
        gap_A = np.diff(along, append=along[0] + 1).max() * heights_A[axis]
        if gap_A < VACUUM_A:
            found.append(int(axis))
    return found


def strained(start: Atoms, spread: float, generator: np.random.Generator) -> Atoms:
    """Return a copy of `start` under a random symmetric strain, atoms moving along with the cell, fixed ones too.

    spread: standard deviation of a normal strain; of a shear, 1/sqrt(2) of it, so that no direction is special (the
    Gaussian orthogonal ensemble). The strain is projected on the space of `filled_directions`: a slab is strained in
    its plane, and neither vacuum nor a molecule in a box at all.
    """
    atoms = start.copy()
    drawn = generator.normal(0.0, spread, (3, 3))
    filled = atoms.cell.array[filled_directions(atoms)]
    if len(filled) == 0:
        return atoms
    space = np.linalg.qr(filled.T)[0]
    onto = space @ space.T
    strain = onto @ (drawn + drawn.T) / 2 @ onto
    deformed = np.eye(3) + strain
    atoms.set_cell(atoms.cell.array @ deformed)
    atoms.positions = atoms.positions @ deformed
    return atoms


def pushed(start: Atoms, settings: Explore, fixed: list[int], generator: np.random.Generator) -> Atoms:
    """Return a copy of `start`, strained, all free atoms rattled and some kicked to another place.

    A kick goes in a random direction, its length is uniform up to `kick_A`: the move of basin hopping (Wales &
    Doye, J. Phys. Chem. A 101, 5111 (1997)), for a few atoms at a time so that most of the structure stays whole.
    A push that brings an atom too near to others is drawn anew, and left out if none fits.
    """
    atoms = strained(start, settings.strain, generator) if settings.strain > 0 else start.copy()
    free = np.setdiff1d(np.arange(len(atoms)), fixed)
    if settings.rattle_A > 0:
        for index in free:
            _move(atoms, index, lambda: generator.normal(0.0, settings.rattle_A, 3))
    kicked = free[generator.random(len(free)) < settings.kick_fraction]
    for index in generator.permutation(kicked):
        _move(atoms, index, lambda: _kick(settings.kick_A, generator))
    return atoms


def _move(atoms: Atoms, index: int, draw: Callable[[], Array]) -> None:
    for _ in range(_TRIES):
        place = atoms.positions[index] + draw()
        if _fits(atoms, index, place):
            atoms.positions[index] = place
            return


def _kick(longest_A: float, generator: np.random.Generator) -> Array:
    direction = generator.normal(size=3)
    return np.asarray(generator.uniform(0.0, longest_A) * direction / np.linalg.norm(direction))


def _fits(atoms: Atoms, index: int, place: Array) -> bool:
    others = np.delete(np.arange(len(atoms)), index)
    if len(others) == 0:
        return True
    _, distances = get_distances(place, atoms.positions[others], cell=atoms.cell, pbc=atoms.pbc)
    radii = covalent_radii[atoms.numbers]
    return bool(np.all(distances[0] >= CLOSEST * (radii[index] + radii[others])))
