"""Near duplicates among frames whose atoms stand in the same order, element by element, in the same cell.

A frame becomes a point: the steps from each atom to the next, as waves where the cell repeats them, so that neither a
shift nor wrapping moves it. Points of near duplicates are no farther apart than their atoms allow, and to project all
on the few directions in which frames differ most brings none farther apart; so a tree of projections finds all of them
without comparing each with each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ipip_ext.potentials.base import Array

_DIRECTIONS, _SAMPLED = 16, 512
"""Directions of a projection, and frames that they are chosen by."""

_CANDIDATES = 32
"""Frames that are compared in full, the nearest by projection; more are as near only where most are duplicates."""

_STRETCH_A = 0.03
"""How much more the step between two atoms differs where cells do, by as much as near duplicates' may."""

_BLOCK = 256
"""Frames that are made points together."""


class InOrder:
    """Frames of the same species in the same order, and a search among them. All have the same periodic directions.

    within_A: near duplicates are nearer than this in each element of the cell, and in the root mean square of their
    atoms' displacements once a shift of the whole is taken out.
    """

    def __init__(self, frames: Sequence[Atoms], within_A: float) -> None:
        self._within_A = within_A
        self._pbc = frames[0].pbc
        self._positions_A = np.array([frame.positions[order_of(frame)] for frame in frames])
        self._cells_A = np.array([frame.cell.array for frame in frames])
        self._tree: cKDTree | None = None
        if len(frames) > _CANDIDATES:
            self._plant()

    def nearest(self, frames: Sequence[Atoms], own: Sequence[int] | None = None) -> list[tuple[int, float] | None]:
        """Return (index, distance in Angstrom) of the nearest of these frames to each of `frames`, None beyond.

        own: of each frame its own index among these, which does not count.
        """
        found: list[tuple[int, float] | None] = []
        for start in range(0, len(frames), _BLOCK):
            block = frames[start : start + _BLOCK]
            for index, (frame, rows) in enumerate(zip(block, self._candidates(block), strict=True)):
                others = rows if own is None else rows[rows != own[start + index]]
                found.append(self._nearest(frame, others))
        return found

    def _nearest(self, frame: Atoms, rows: NDArray[np.int64]) -> tuple[int, float] | None:
        rows = rows[np.abs(self._cells_A[rows] - frame.cell.array).max(axis=(1, 2)) < self._within_A]
        if not len(rows):
            return None
        moved = displacements(self._positions_A[rows], frame.positions[order_of(frame)], frame)
        moved -= moved.mean(axis=1, keepdims=True)
        distances_A = np.sqrt((moved**2).sum(axis=2).mean(axis=1))
        best = int(distances_A.argmin())
        return (int(rows[best]), float(distances_A[best])) if distances_A[best] < self._within_A else None

    def _candidates(self, frames: Sequence[Atoms]) -> list[NDArray[np.int64]]:
        if self._tree is None:
            return [np.arange(len(self._positions_A))] * len(frames)
        positions_A = np.array([frame.positions[order_of(frame)] for frame in frames])
        points = self._points(positions_A, np.array([frame.cell.array for frame in frames]))
        _, rows = self._tree.query(points, k=_CANDIDATES, distance_upper_bound=self._radius_A)
        return [np.sort(some[some < len(self._positions_A)]) for some in np.asarray(rows)]

    def _plant(self) -> None:
        """Choose the directions in which a sample of the frames differs most, and make a tree of all."""
        self._unit_A = _lengths(_whole(self._cells_A[:1], self._pbc))[0]
        some = slice(None, None, -(-len(self._positions_A) // _SAMPLED))
        sample = self._raw_points(self._positions_A[some], self._cells_A[some])
        self._middle = sample.mean(axis=0)
        self._directions = np.linalg.svd(sample - self._middle, full_matrices=False)[2][:_DIRECTIONS]
        n_atoms, even = self._positions_A.shape[1], bool(np.ptp(self._cells_A, axis=0).max() < 1e-6)
        step_A = 2 * self._within_A + (0.0 if even else _STRETCH_A)
        skew = float(
            np.linalg.norm(self._unit_A[:, None] * np.linalg.inv(_whole(self._cells_A[:1], self._pbc)[0]).T, 2)
        )
        # each atom ends one step and begins another, so squares of steps add up to four times those of displacements
        self._radius_A = float(np.hypot(skew * step_A * np.sqrt(n_atoms), 3 * self._within_A)) * (1 + 1e-6)
        blocks = range(0, len(self._positions_A), _BLOCK)
        points = [self._points(self._positions_A[b : b + _BLOCK], self._cells_A[b : b + _BLOCK]) for b in blocks]
        self._tree = cKDTree(np.concatenate(points))

    def _points(self, positions_A: Array, cells_A: Array) -> Array:
        return np.asarray((self._raw_points(positions_A, cells_A) - self._middle) @ self._directions.T)

    def _raw_points(self, positions_A: Array, cells_A: Array) -> Array:
        """Return a point for each frame, (n_frames, n_dimensions) Angstrom."""
        steps = np.diff(positions_A @ np.linalg.inv(_whole(cells_A, self._pbc)), axis=1)
        n_frames = len(positions_A)
        waves = 2 * np.pi * steps[:, :, self._pbc]
        per_wave = self._unit_A[self._pbc] / (2 * np.pi)
        parts = [per_wave * np.cos(waves), per_wave * np.sin(waves), self._unit_A[~self._pbc] * steps[:, :, ~self._pbc]]
        return np.concatenate([part.reshape(n_frames, -1) for part in (*parts, cells_A)], axis=1)


def order_of(frame: Atoms) -> NDArray[np.int64]:
    """Return the order of atoms by element, (n_atoms,); atoms of one element stay as they stand."""
    return np.argsort(frame.numbers, kind="stable")


def displacements(positions_A: Array, reference_A: Array, frame: Atoms) -> Array:
    """Return the displacements (n_frames, n_atoms, 3) from `reference_A` (n_atoms, 3), the first atom's taken out.

    Each is the shortest among its periodic images if it is short at all, which is all that matters here. frame: has
    the cell and its periodicity.
    """
    moved = positions_A - reference_A
    moved = moved - moved[:, :1]
    if not frame.pbc.any():
        return moved
    cell = frame.cell.complete().array
    fractions = moved @ np.linalg.inv(cell)
    wrapped: Array = (fractions - np.round(fractions) * frame.pbc) @ cell
    return wrapped


def _whole(cells_A: Array, pbc: NDArray[np.bool_]) -> Array:
    """Return cells whose open directions are unit vectors perpendicular to the others, whatever they were."""
    if pbc.all():
        return cells_A
    if not pbc.any():
        return np.broadcast_to(np.eye(3), cells_A.shape)
    return np.array([Atoms(cell=np.where(pbc[:, None], cell, 0.0)).cell.complete().array for cell in cells_A])


def _lengths(cells_A: Array) -> Array:
    """Return how far a fraction of one is along each direction, (n_frames, 3) Angstrom: the heights of the cells."""
    return np.asarray(1 / np.linalg.norm(np.linalg.inv(cells_A), axis=1))
