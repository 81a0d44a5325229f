"""No held-out frame in training: near duplicates of validation and test frames, found whatever stage made them.

Two frames are near duplicates if they have the same species and cell, and the root mean square of their atoms'
displacements is below `NEAR_A` once a shift of the whole is taken out. Frames that MD takes one after another are
none: in 5 fs at 300 K sulphur moves by 0.024 A and molybdenum by 0.014 A, and no pool or training set of the shipped
Mo-S-O data comes nearer to a held-out frame than 0.059 A. At 0.01 A forces differ by no more than a good student's
error. Atoms are compared in the order in which they stand, element by element: a copy whose equal atoms were
renumbered, or whose cell was rotated or multiplied, is not recognised.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.data import frames as fr
from ipip_ext.errors import DataError

NEAR_A = 0.01

Array = NDArray[np.float64]

_FIRST_ATOMS = 4
"""Atoms that are compared before all are: nearly every pair of frames differs in them."""

_SHOWN = 3

_REMEDIES = {"valid": "hold out whole trajectories by data.valid_split: grouped", "test": "test on other frames"}


@dataclass(frozen=True)
class Twin:
    """A frame and the known frame of which it is a near duplicate: indices, and how far apart they are."""

    frame: int
    known: int
    distance_A: float


class Known:
    """Frames of which near duplicates are looked for."""

    def __init__(self, frames: Sequence[Atoms]) -> None:
        self._groups: dict[bytes, _Group] = {}
        rows: dict[bytes, list[int]] = defaultdict(list)
        for index, frame in enumerate(frames):
            rows[_species(frame)].append(index)
        for species, members in rows.items():
            self._groups[species] = _Group([frames[i] for i in members], members)

    def twin_of(self, frame: Atoms) -> tuple[int, float] | None:
        """Return (index, distance in Angstrom) of the nearest known frame if it is a near duplicate, else None."""
        group = self._groups.get(_species(frame))
        return None if group is None else group.nearest(frame)

    def twins_in(self, frames: Sequence[Atoms]) -> list[Twin]:
        """Return the frames that have a near duplicate here."""
        found = ((index, self.twin_of(frame)) for index, frame in enumerate(frames))
        return [Twin(index, *twin) for index, twin in found if twin is not None]


class _Group:
    """Frames of the same species in the same order. positions_A: (n_frames, n_atoms, 3)."""

    def __init__(self, frames: Sequence[Atoms], indices: Sequence[int]) -> None:
        self.indices = np.array(indices)
        self.positions_A = np.array([frame.positions[_order(frame)] for frame in frames])
        self.cells_A = np.array([frame.cell.array for frame in frames])

    def nearest(self, frame: Atoms) -> tuple[int, float] | None:
        rows = np.flatnonzero(np.abs(self.cells_A - frame.cell.array).max(axis=(1, 2)) < NEAR_A)
        order, n_atoms = _order(frame), len(frame)
        first = slice(0, _FIRST_ATOMS)
        # no single atom is off by more than this where the root mean square is below NEAR_A
        most_A = 2 * NEAR_A * np.sqrt(n_atoms)
        moved = displacements(self.positions_A[rows, first], frame.positions[order][first], frame)
        rows = rows[np.linalg.norm(moved, axis=2).max(axis=1) < most_A] if len(rows) else rows
        if not len(rows):
            return None
        moved = displacements(self.positions_A[rows], frame.positions[order], frame)
        moved -= moved.mean(axis=1, keepdims=True)
        distances_A = np.sqrt((moved**2).sum(axis=2).mean(axis=1))
        best = int(distances_A.argmin())
        return (int(self.indices[rows[best]]), float(distances_A[best])) if distances_A[best] < NEAR_A else None


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


def held_out(run_folder: Path | None) -> dict[str, list[Atoms]]:
    """Return the validation and test frames of a run, which its first stage has set aside; {} outside of a run.

    They are no inputs of a training: they decide nothing of what it makes, only whether it may.
    """
    if run_folder is None:
        return {}
    files = {split: run_folder / "prepare" / f"{split}.extxyz" for split in ("valid", "test")}
    return {split: fr.read_frames(path) for split, path in files.items() if path.is_file()}


def refuse(where: str, training: Sequence[Atoms], held: Mapping[str, Sequence[Atoms]]) -> None:
    """Raise DataError naming the frames of `training` that are near duplicates of held-out ones.

    where: start of the message. held: held-out frames by the name of their split.
    """
    for split, frames in held.items():
        twins = Known(frames).twins_in(training)
        if not twins:
            continue
        told = [
            f"{_id(training[t.frame])} ({training[t.frame].info.get(fr.SOURCE, 'unknown source')}) is"
            f" {t.distance_A:.2g} A from {_id(frames[t.known])}"
            for t in twins[:_SHOWN]
        ]
        more = f", and {len(twins) - _SHOWN} more" if len(twins) > _SHOWN else ""
        raise DataError(
            f"{where}: {len(twins)} frames to train on are near duplicates of {split} frames: {'; '.join(told)}{more}."
            f" Take one of each pair out, {_REMEDIES[split]}, or begin MD elsewhere."
        )


def _id(frame: Atoms) -> str:
    return str(frame.info.get(fr.ID, "?"))


def _order(frame: Atoms) -> NDArray[np.int64]:
    return np.argsort(frame.numbers, kind="stable")


def _species(frame: Atoms) -> bytes:
    return bytes(np.sort(frame.numbers).tobytes() + frame.pbc.tobytes())
