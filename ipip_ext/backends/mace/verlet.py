"""Neighbour lists that outlast the step they were built for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.potentials.base import Array
from ipip_ext.potentials.neighbours import neighbours

SKIN_A = 0.8
"""How much further than the cut-off a list reaches. Wider: fewer lists, but more pairs to look through a step."""


@dataclass(frozen=True)
class Edges:
    """Pairs of one frame. pairs: (2, n_edges), sender and receiver. shifts: (n_edges, 3) A."""

    pairs: NDArray[np.int64]
    shifts: Array


_NONE = Edges(np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3)))


class VerletLists:
    """The pairs of each frame within a cut-off and a skin, all rebuilt once an atom has moved half the skin.

    Until then no pair can come within the cut-off unseen (L. Verlet, Phys. Rev. 159, 98 (1967)). Pairs stand in an
    order of their own, by atoms and cells crossed, so that those within the cut-off are the same in the same order
    however old a list is: a step depends on its positions alone, to the last bit, and a resumed run on no list.
    """

    def __init__(self, frames: Sequence[Atoms], cutoff_A: float, skin_A: float) -> None:
        self.frames = list(frames)
        self.reach_A = cutoff_A + skin_A
        self.allowed_A2 = (skin_A / 2) ** 2
        counts = [len(frame) for frame in frames]
        self.offsets = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)
        self.rows = [slice(int(o), int(o) + n) for o, n in zip(self.offsets, counts, strict=True)]
        self.edges = [_NONE] * len(counts)
        self.built = np.zeros((sum(counts), 3))
        self.missing = np.ones(len(counts), dtype=bool)

    def update(self, positions: Array, skip: NDArray[np.bool_]) -> tuple[bool, dict[int, str]]:
        """Bring the lists up to `positions`, (n_rows, 3) A; return whether any changed, and why one could not.

        skip: frames whose positions mean nothing; their lists are left as they are.
        """
        away = positions - self.built
        moved_A2 = np.maximum.reduceat(np.einsum("ij,ij->i", away, away), self.offsets)
        if not np.any((self.missing | (moved_A2 > self.allowed_A2)) & ~skip):
            return False, {}
        failures: dict[int, str] = {}
        for index in np.flatnonzero(~skip).tolist():  # all: as dear as the late ones alone, over many steps
            rows = self.rows[index]
            try:
                self.edges[index] = _edges(self.frames[index], positions[rows], self.reach_A)
                self.built[rows], self.missing[index] = positions[rows], False
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever goes wrong must cost one frame, no more
                self.edges[index], self.missing[index] = _NONE, True
                failures[index] = f"{type(error).__name__}: {error}"
        return True, failures


def _edges(frame: Atoms, positions: Array, reach_A: float) -> Edges:
    senders, receivers, crossed = neighbours("ijS", positions, frame.cell.array, frame.pbc, reach_A)
    order = np.lexsort((*crossed.T, receivers, senders))
    pairs, shifts = np.stack((senders, receivers)), crossed @ np.asarray(frame.cell.array, dtype=float)
    return Edges(pairs[:, order].astype(np.int64), shifts[order])
