"""Which cells an MD step is timed on: a start of the recipe, repeated along what is periodic of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ipip_ext import md
from ipip_ext.errors import RecipeError
from ipip_ext.recipe.evaluate import Evaluate

Repeats = tuple[int, int, int]

ABOUT = 100
"""Atoms that repeats are chosen for where the recipe names none: fewer tell of overheads alone."""

_LARGE = 2 * ABOUT
"""Of a start with more atoms no cell twice as large is timed unless the recipe says so: it would take long."""


def start_of(starts: Sequence[Atoms], settings: Evaluate) -> Atoms:
    """Return the start that the recipe names. Raises RecipeError if there is none."""
    wanted = settings.speed_start
    for index, atoms in enumerate(starts):
        if wanted in (index, atoms.info.get("name")):
            return atoms
    names = [str(atoms.info.get("name", index)) for index, atoms in enumerate(starts)]
    raise RecipeError(f"evaluate.speed_start: {wanted} is no start. Known: {', '.join(names)}.")


def supercell(starts: Sequence[Atoms], settings: Evaluate) -> Atoms:
    """Return the main cell of the timing. Raises RecipeError if there is no such start."""
    start = start_of(starts, settings)
    return start.repeat(main_size(start, settings))


def main_size(start: Atoms, settings: Evaluate) -> Repeats:
    """Return the repeats of the main cell: the recipe's, or those that make about `ABOUT` atoms."""
    given = settings.speed_supercell
    return about(start, ABOUT) if given is None else _possible(start, given)


def sizes(start: Atoms, settings: Evaluate) -> list[Repeats]:
    """Return the repeats of all cells that are timed, the smallest first; along what is not periodic they are 1."""
    main = main_size(start, settings)
    if settings.speed_supercells is None:
        others = [(1, 1, 1), *_doubled(start, settings, main)]
    else:
        others = [_possible(start, repeats) for repeats in settings.speed_supercells]
    by_size = {math.prod(repeats): repeats for repeats in (*others, main)}  # of equal size one, the main one first
    return [by_size[size] for size in sorted(by_size)]


def about(start: Atoms, n_atoms: int) -> Repeats:
    """Return the repeats with which `start` comes nearest to `n_atoms`, its shortest side repeated first.

    Only directions in which matter goes on are repeated: a molecule in a box, with pbc or without, stays as it is.
    """
    repeats = np.ones(3, dtype=int)
    filled = md.filled_directions(start)
    while filled:
        lengths_A = start.cell.lengths()[filled] * repeats[filled]
        longer = repeats.copy()
        longer[filled[int(np.argmin(lengths_A))]] += 1
        if _miss(len(start) * int(longer.prod()), n_atoms) >= _miss(len(start) * int(repeats.prod()), n_atoms):
            break
        repeats = longer
    return int(repeats[0]), int(repeats[1]), int(repeats[2])


def _miss(found: int, wanted: int) -> float:
    return abs(math.log(found / wanted))


def _possible(start: Atoms, repeats: Repeats) -> Repeats:
    a, b, c = (n if periodic else 1 for n, periodic in zip(repeats, start.pbc, strict=True))
    return a, b, c


def _doubled(start: Atoms, settings: Evaluate, main: Repeats) -> list[Repeats]:
    """Return `main` doubled along the first and most repeated direction; nothing where there is none."""
    is_chosen = settings.speed_supercell is None
    axes = md.filled_directions(start) if is_chosen else [int(axis) for axis in np.flatnonzero(start.pbc)]
    if not axes or (is_chosen and len(start) > _LARGE):
        return []
    twice = list(main)
    twice[max(axes, key=lambda axis: main[axis])] *= 2
    return [(twice[0], twice[1], twice[2])]
