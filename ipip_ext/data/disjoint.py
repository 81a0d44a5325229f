"""Splits that share no frame, and files in which none stands twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data.leakage import SAME_A, Known, Twin, near_duplicates
from ipip_ext.errors import DataError
from ipip_ext.recipe.data import Data

_SHOWN = 6


def check_disjoint(
    data: Data, pool: Sequence[Atoms], train: Sequence[Atoms], valid: Sequence[Atoms],
    tests: Mapping[Path, Sequence[Atoms]],
) -> None:  # fmt: skip
    """Raise DataError naming a frame that stands in two splits, or frames to train on that are too near to others.

    pool: the frames from which those of `train` were drawn; the others are held to standing in no other split.
    tests: test frames by their file.
    """
    valid_path, drawn = data.valid or data.train, {id(frame) for frame in train}
    held = ((valid_path, valid, "valid"), *((path, frames, "test") for path, frames in tests.items()))
    for path, frames, split in held:
        twins = Known(frames).twins_in(pool)
        if split == "test" or data.valid is not None:
            _refuse_same(pool, data.train, frames, path, [twin for twin in twins if twin.in_order])
        near = [twin for twin in twins if id(pool[twin.frame]) in drawn]
        if near:
            where = path.name if split == "test" and len(tests) > 1 else ""
            raise near_duplicates(f"{data.train}", pool, split, frames, near, where)
    for path, frames in tests.items():
        _refuse_same(valid, valid_path, frames, path, Known(frames, SAME_A).twins_in(valid))


def _refuse_same(
    frames: Sequence[Atoms], path: Path, held: Sequence[Atoms], held_path: Path, twins: Sequence[Twin]
) -> None:  # fmt: skip
    for twin in twins:
        if twin.distance_A < SAME_A:
            one, other = frames[twin.frame], held[twin.known]
            dressed = "" if twin.in_order else " once turned or renumbered"
            raise DataError(
                f"{held_path}: frame {twin.known} ({other.info[fr.ID]}) also stands in {path}"
                f" ({one.info.get(fr.ID, twin.frame)}){dressed}; take it out of one of them."
            )


def repeated(path: Path, frames: Sequence[Atoms], groups: Sequence[Sequence[int]]) -> Iterator[str]:
    """Yield a sentence on frames of a file that are the same, if there are some. groups: of those, as `copies` says."""
    if not groups:
        return
    most = max(groups, key=len)
    names = ", ".join(str(frames[index].info.get(fr.ID, index)) for index in most[:_SHOWN])
    n_distinct = len(frames) - sum(len(group) - 1 for group in groups)
    names += ", ..." if len(most) > _SHOWN else ""
    among = (
        f"{n_distinct} distinct frames among {len(frames)}; one stands there" if n_distinct > 1 else "1 distinct frame"
    )
    yield (
        f"{path.name}: holds {among} {len(most)} times ({names})."
        " Each counts in errors, and makes their intervals too narrow."
    )
