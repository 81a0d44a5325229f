"""Starts pushed out of their basin: MD at any bearable temperature may never leave it in the time there is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import get_distances

from ipip_ext.potential import Array
from ipip_ext.recipe import Explore

CLOSEST = 0.75
"""Nearest two atoms may come by a push, in units of the sum of covalent radii."""

_TRIES = 30


def pushed(start: Atoms, settings: Explore, fixed: list[int], generator: np.random.Generator) -> Atoms:
    """Return a copy of `start`, all free atoms rattled and some kicked to another place.

    A kick goes in a random direction, its length is uniform up to `kick_A`: the move of basin hopping (Wales &
    Doye, J. Phys. Chem. A 101, 5111 (1997)), for a few atoms at a time so that most of the structure stays whole.
    A push that brings an atom too near to others is drawn anew, and left out if none fits.
    """
    atoms = start.copy()
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
