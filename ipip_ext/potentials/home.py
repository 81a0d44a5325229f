"""Where a potential is at home: how far the surroundings of an atom are from those that it has learnt.

Home distances have no unit: 1 is the edge of what was learnt, which one frame in a hundred crosses that is like those
of training; an atom of an element that was never learnt is infinitely far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from ase import Atoms

from ipip_ext.potentials.base import Array

EDGE = 1.0
"""Home distance above which an atom is outside of what was learnt."""

FAR = 2.0
"""Home distance at which a walk that is to stop there does. Not the edge, which long walks at home cross by chance."""


@runtime_checkable
class HasHome(Protocol):
    """A Potential that may tell how far atoms are from what it has learnt (optional)."""

    home: Any
    """What it tells it by; None if it can't."""

    def home_distances(self, frames: Sequence[Atoms]) -> list[Array]:
        """Return the home distance of each atom, (n_atoms,) a frame, for less than `compute` costs."""
        ...


def has_home(potential: object) -> bool:
    """Return whether `potential` can tell how far atoms are from what it has learnt."""
    return isinstance(potential, HasHome) and potential.home is not None


def farthest(distances: Array) -> int:
    """Return the index of the atom that is farthest from home. distances: (n_atoms,), n_atoms above 0."""
    return int(np.argmax(distances))


def told(atoms: Atoms, distances: Array) -> str:
    """Return in words which atom is farthest from home, and how far."""
    atom = farthest(distances)
    return f"atom {atom} ({atoms.symbols[atom]}) has home distance {distances[atom]:.2f}"
