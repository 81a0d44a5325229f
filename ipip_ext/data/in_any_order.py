"""Copies of frames in another dress: turned, mirrored, renumbered, in another cell or a multiple of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ipip_ext.data import frames as fr
from ipip_ext.data.invariants import look_at
from ipip_ext.data.isometry import SLACK, distance
from ipip_ext.potentials.base import Array
from ipip_ext.potentials.charge import state_key

_SPREAD_A = 0.035
"""Invariants of copies differ by less than this over the root of the number of atoms."""

_CANDIDATES = 8
"""Frames that are looked into, the nearest by invariants: a copy is the nearest of all but other copies."""

_FEWEST_FREE = 9
"""Structures with fewer internal coordinates come this near by chance; among them only equal labels tell of a copy."""

_SAME_ENERGY_EV_PER_ATOM, _SAME_FORCE_EV_PER_A = 1e-5, 1e-3


class InAnyOrder:
    """Frames of one kind, see `kind_of`, and a search for copies among them.

    within_A: copies are nearer than this; above `isometry.COPY_A` none is found.
    """

    def __init__(self, frames: Sequence[Atoms], within_A: float) -> None:
        self._frames, self._within_A = frames, within_A
        looks = look_at(frames)
        self._extremes = np.array([look.extremes for look in looks])
        self._tree = cKDTree(np.array([look.means for look in looks]))

    def nearest(self, frames: Sequence[Atoms], own: Sequence[int] | None = None) -> list[tuple[int, float] | None]:
        """Return (index, distance in Angstrom) of a copy of each of `frames`, or None.

        own: of each frame its own index among these, which does not count.
        """
        looks = look_at(frames)
        means = np.array([look.means for look in looks])
        reach = np.array([_SPREAD_A / np.sqrt(len(frame)) for frame in frames])
        k = min(_CANDIDATES + 1, len(self._frames))
        apart, rows = (np.asarray(found).reshape(len(frames), k) for found in self._tree.query(means, k=k))
        found: list[tuple[int, float] | None] = []
        for index, frame in enumerate(frames):
            near = rows[index][apart[index] < reach[index]]
            near = near[np.abs(self._extremes[near] - looks[index].extremes).max(axis=1) < SLACK]
            if own is not None:
                near = near[near != own[index]]
            found.append(self._copy_of(frame, near))
        return found

    def _copy_of(self, frame: Atoms, rows: NDArray[np.int64]) -> tuple[int, float] | None:
        for row in rows.tolist():
            other = self._frames[row]
            if max(_n_free(frame), _n_free(other)) < _FEWEST_FREE and not have_same_labels(frame, other):
                continue
            found_A = distance(frame, other)
            if found_A is not None and found_A < self._within_A:
                return row, found_A
        return None


def kind_of(frame: Atoms) -> bytes:
    """Return what copies share: the elements and in which shares, charge and spin."""
    numbers, counts = np.unique(frame.numbers, return_counts=True)
    return np.concatenate([numbers, counts // np.gcd.reduce(counts)]).tobytes() + state_key(frame)


def by_kind(frames: Sequence[Atoms]) -> dict[bytes, list[int]]:
    """Return the indices of the frames of each kind; those of a lone atom without images are of none."""
    rows: dict[bytes, list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        if len(frame) > 1 or frame.pbc.any():
            rows[kind_of(frame)].append(index)
    return rows


def have_same_labels(one: Atoms, other: Atoms) -> bool:
    """Return whether both have labels, with equal energies per atom and equal lengths of forces."""
    if not all(fr.ENERGY in frame.info and fr.FORCES in frame.arrays for frame in (one, other)):
        return False
    apart = one.info[fr.ENERGY] / len(one) - other.info[fr.ENERGY] / len(other)
    if abs(apart) > _SAME_ENERGY_EV_PER_ATOM:
        return False
    return bool(np.abs(_sorted_forces(one, len(other)) - _sorted_forces(other, len(one))).max() < _SAME_FORCE_EV_PER_A)


def _sorted_forces(frame: Atoms, times: int) -> Array:
    return np.repeat(np.sort(np.linalg.norm(frame.arrays[fr.FORCES], axis=1)), times)


def _n_free(frame: Atoms) -> int:
    """Return the number of coordinates, those of the cell included, that neither turning nor shifting changes."""
    return 3 * len(frame) + 3 if frame.pbc.any() else max(3 * len(frame) - 6, 1)
