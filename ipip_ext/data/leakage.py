"""No held-out frame in training: near duplicates of validation and test frames, found whatever stage made them.

Two frames are near duplicates if they have the same species, cell, charge and spin, and the root mean square of their
atoms' displacements is below `NEAR_A` once a shift of the whole is taken out. Frames that MD takes one after another
are none: in 5 fs at 300 K sulphur moves by 0.024 A and molybdenum by 0.014 A, and no pool or training set of the
shipped Mo-S-O data comes nearer to a held-out frame than 0.059 A. At 0.01 A forces differ by no more than a good
student's error.

A copy in another dress is one too: turned or mirrored, its atoms renumbered, in another cell or a multiple of it. There
the displacement must be below `SAME_A`: frames that may be turned and renumbered come as near as 0.01 A by chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data.in_any_order import InAnyOrder, by_kind
from ipip_ext.data.in_order import InOrder
from ipip_ext.data.isometry import COPY_A
from ipip_ext.errors import DataError
from ipip_ext.potentials.charge import state_key

NEAR_A = 0.01

SAME_A = COPY_A
"""Frames nearer than this are the same frame."""

_SHOWN = 3
_DRESSED = " once turned, renumbered or taken in another cell"

_REMEDIES = {"valid": "hold out whole trajectories by data.valid_split: grouped", "test": "test on other frames"}


@dataclass(frozen=True)
class Twin:
    """A frame and the known frame of which it is a near duplicate: indices, and how far apart they are.

    in_order: whether their atoms stand in the same order in the same cell.
    """

    frame: int
    known: int
    distance_A: float
    in_order: bool = True


class Known:
    """Frames of which near duplicates are looked for."""

    def __init__(self, frames: Sequence[Atoms], within_A: float = NEAR_A) -> None:
        self._frames = frames
        self._in_order = _searched(InOrder, frames, by_order(frames), within_A)
        self._in_any_order = _searched(InAnyOrder, frames, by_kind(frames), within_A)

    def twin_of(self, frame: Atoms) -> tuple[int, float] | None:
        """Return (index, distance in Angstrom) of the nearest known frame if it is a near duplicate, else None."""
        found = self.twins_in([frame])
        return (found[0].known, found[0].distance_A) if found else None

    def twins_in(self, frames: Sequence[Atoms]) -> list[Twin]:
        """Return the frames that have a near duplicate here."""
        return self._twins(frames, among_themselves=False)

    def twins(self) -> list[Twin]:
        """Return those of the known frames that have a near duplicate among the others."""
        return self._twins(self._frames, among_themselves=True)

    def _twins(self, frames: Sequence[Atoms], *, among_themselves: bool) -> list[Twin]:
        found: dict[int, Twin] = {}
        for groups, keys, in_order in ((self._in_order, by_order, True), (self._in_any_order, by_kind, False)):
            left = [index for index in range(len(frames)) if index not in found]
            for key, places in keys([frames[index] for index in left]).items():
                if key not in groups:
                    continue
                rows, search = groups[key]
                wanted = [left[place] for place in places]
                own = np.searchsorted(rows, wanted).tolist() if among_themselves else None
                near = search.nearest([frames[index] for index in wanted], own)
                found |= {
                    index: Twin(index, rows[twin[0]], twin[1], in_order)
                    for index, twin in zip(wanted, near, strict=True)
                    if twin is not None
                }
        return [found[index] for index in sorted(found)]


def copies(frames: Sequence[Atoms]) -> list[list[int]]:
    """Return the groups of frames that are the same one, by their indices; frames that stand once are in none."""
    first = list(range(len(frames)))

    def root(index: int) -> int:
        while first[index] != index:
            index = first[index]
        return index

    left = first.copy()
    while twins := Known([frames[index] for index in left], SAME_A).twins():
        for twin in twins:
            one, other = sorted((root(left[twin.frame]), root(left[twin.known])))
            first[other] = one
        left = [index for index in left if first[index] == index]
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(frames)):
        groups[root(index)].append(index)
    return [group for group in groups.values() if len(group) > 1]


def held_out(run_folder: Path | None) -> dict[str, list[Atoms]]:
    """Return the validation and test frames of a run, which its first stage has set aside; {} outside of a run.

    They are no inputs of a training: they decide nothing of what it makes, only whether it may.
    """
    if run_folder is None:
        return {}
    files = {split: run_folder / "prepare" / f"{split}.extxyz" for split in ("valid", "test")}
    return {split: fr.read_frames(path) for split, path in files.items() if path.is_file()}


def refuse_trained_on(run_folder: Path | None, test: Sequence[Atoms]) -> None:
    """Raise DataError for test frames that something in a run was trained on: they may be new to it."""
    if run_folder is not None:
        for pool in sorted([*run_folder.rglob("pool.extxyz"), *run_folder.glob("explore/*.extxyz")]):
            refuse(f"{pool}", fr.read_frames(pool), {"test": test})


def refuse(where: str, training: Sequence[Atoms], held: Mapping[str, Sequence[Atoms]]) -> None:
    """Raise DataError naming the frames of `training` that are near duplicates of held-out ones.

    where: start of the message. held: held-out frames by the name of their split.
    """
    for split, frames in held.items():
        twins = Known(frames).twins_in(training)
        if twins:
            raise near_duplicates(where, training, split, frames, twins)


def near_duplicates(
    where: str, training: Sequence[Atoms], split: str, held: Sequence[Atoms], twins: Sequence[Twin], file: str = ""
) -> DataError:  # fmt: skip
    """Return the error that names the `twins` among frames to train on and the held-out ones of `split`.

    file: where these stand, if the split has several.
    """
    of = f"{split} frames of {file}" if file else f"{split} frames"
    told = [
        f"{_id(training[t.frame])} ({training[t.frame].info.get(fr.SOURCE, 'unknown source')}) is"
        f" {round(t.distance_A, 5):.2g} A from {_id(held[t.known])}{'' if t.in_order else _DRESSED}"
        for t in twins[:_SHOWN]
    ]
    more = f", and {len(twins) - _SHOWN} more" if len(twins) > _SHOWN else ""
    return DataError(
        f"{where}: {len(twins)} frames to train on are near duplicates of {of}: {'; '.join(told)}{more}."
        f" Take one of each pair out, {_REMEDIES[split]}, or begin MD elsewhere."
    )


def by_order(frames: Sequence[Atoms]) -> dict[bytes, list[int]]:
    """Return the indices of the frames that have the same elements, periodic directions, charge and spin."""
    rows: dict[bytes, list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        rows[np.sort(frame.numbers).tobytes() + frame.pbc.tobytes() + state_key(frame)].append(index)
    return rows


_Search = TypeVar("_Search", InOrder, InAnyOrder)


def _searched(
    kind: Callable[[Sequence[Atoms], float], _Search], frames: Sequence[Atoms], groups: Mapping[bytes, list[int]],
    within_A: float,
) -> dict[bytes, tuple[list[int], _Search]]:  # fmt: skip
    return {key: (rows, kind([frames[row] for row in rows], within_A)) for key, rows in groups.items()}


def _id(frame: Atoms) -> str:
    return str(frame.info.get(fr.ID, "?"))
