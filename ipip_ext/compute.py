"""Compute many frames so that one that fails costs itself and no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from ipip_ext.potential import FrameFailed, Potential, Prediction


def compute_each(potential: Potential, frames: Sequence[Atoms]) -> tuple[list[Prediction], dict[int, str]]:
    """Compute all frames at once; if that fails, find the culprits and compute the others.

    A potential without batches is asked frame by frame, where it lets itself, so that none is computed twice.
    Returns a prediction a frame (NaN for a culprit) and why each culprit failed, by index.
    """
    done: dict[int, Prediction] = {}
    failures: dict[int, str] = {}
    if not potential.batched and hasattr(potential, "compute_separately"):
        for index, answer in enumerate(potential.compute_separately(frames)):
            if isinstance(answer, FrameFailed):
                failures[index] = answer.message
            else:
                done[index] = answer
        return _in_order(frames, done), failures
    left = list(range(len(frames)))
    while left:
        try:
            done.update(zip(left, potential.compute([frames[i] for i in left]), strict=True))
            break
        except Exception as error:  # noqa: BLE001 - whatever a calculator throws must cost one frame, no more
            culprit = _culprit(error, len(left))
            if culprit is None:
                _one_by_one(potential, frames, left, done, failures)
                break
            failures[left.pop(culprit)] = _words(error)
    return _in_order(frames, done), failures


def _in_order(frames: Sequence[Atoms], done: Mapping[int, Prediction]) -> list[Prediction]:
    return [done.get(index) or _no_numbers(frame) for index, frame in enumerate(frames)]


def _one_by_one(
    potential: Potential, frames: Sequence[Atoms], indices: Sequence[int],
    done: dict[int, Prediction], failures: dict[int, str],
) -> None:  # fmt: skip
    for index in indices:
        (done[index],), failed = compute_each(potential, [frames[index]])
        if failed:
            failures[index] = failed[0]


def _culprit(error: Exception, n_frames: int) -> int | None:
    """Return which of the frames `error` is about, None if it does not tell."""
    if n_frames == 1:
        return 0
    if isinstance(error, FrameFailed) and 0 <= error.index < n_frames:
        return error.index
    return None


def _words(error: Exception) -> str:
    return error.message if isinstance(error, FrameFailed) else f"{type(error).__name__}: {error}"


def _no_numbers(frame: Atoms) -> Prediction:
    return Prediction(float("nan"), np.full((len(frame), 3), np.nan))
