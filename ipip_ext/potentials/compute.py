"""Compute many frames so that one that fails costs itself and no other."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.errors import CalculatorError, DeviceLost
from ipip_ext.potentials.base import Array, FrameFailed, HasSessions, Potential, Prediction


def compute_each(
    potential: Potential, frames: Sequence[Atoms], *, stress: bool = False
) -> tuple[list[Prediction], dict[int, str]]:
    """Compute all frames at once; if that fails, find the culprits and compute the others.

    A potential without batches is asked frame by frame, where it lets itself, so that none is computed twice.
    Returns a prediction a frame (NaN for a culprit) and why each culprit failed, by index. Labels that are not of
    the frame's shape, or without the stress that was asked for, are a failure like any other.
    Raises DeviceLost where no frame is at fault, since it would else cost all of them without a word.
    """
    done: dict[int, Prediction] = {}
    failures: dict[int, str] = {}
    if not potential.batched and not stress and hasattr(potential, "compute_separately"):
        answers = _separately(potential, frames)
        failures = {i: reason(a) for i, a in enumerate(answers) if isinstance(a, FrameFailed)}
        done = {i: a for i, a in enumerate(answers) if not isinstance(a, FrameFailed)}
    else:
        _compute(potential, frames, list(range(len(frames))), stress, done, failures)
    for index, prediction in list(done.items()):
        fault = _fault(frames[index], prediction, stress)
        if fault is not None:
            failures[index] = fault
            del done[index]
    return _in_order(frames, done, stress), failures


class Repeated:
    """The same frames evaluated again and again, by the potential's own session where it has one.

    A frame that fails costs itself and no other, each time anew.
    """

    def __init__(self, potential: Potential, frames: Sequence[Atoms]) -> None:
        self.potential = potential
        self.frames = frames
        self.session = potential.session(frames) if isinstance(potential, HasSessions) else None

    def compute(self, positions: Array) -> tuple[Array, Array, dict[int, str]]:
        """Evaluate the frames, which stand at `positions` already; returns what `Session.compute` does."""
        if self.session is not None:
            with contextlib.suppress(Exception, SystemExit):  # out of memory, say: told frame by frame below
                return self.session.compute(positions)
        predictions, failures = compute_each(self.potential, self.frames)
        energies_eV = np.array([prediction.energy_eV for prediction in predictions])
        return energies_eV, np.concatenate([prediction.forces_eV_per_A for prediction in predictions]), failures


def _compute(
    potential: Potential, frames: Sequence[Atoms], left: list[int], stress: bool,
    done: dict[int, Prediction], failures: dict[int, str],
) -> None:  # fmt: skip
    """Compute the frames `left`, all at once as long as each failure tells whose it is."""
    while left:
        try:
            told = potential.compute([frames[i] for i in left], stress=stress)
            done.update(zip(left, told, strict=True))
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what a calculator throws must cost one frame, no more
            why = reason(error)
            culprit = _culprit(error, len(left))
            if culprit is not None:
                failures[left.pop(culprit)] = why
            if culprit is None or not potential.batched:  # at once has no merit then, and would recompute the others
                break
    for index in left:
        _compute(potential, frames, [index], stress, done, failures)


def _separately(potential: Any, frames: Sequence[Atoms]) -> list[Prediction | FrameFailed]:
    """Return the answers of `compute_separately`; if it raises, those to one frame at a time."""
    try:
        return list(potential.compute_separately(frames))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - see `_compute`
        if len(frames) == 1:
            return [FrameFailed(0, reason(error))]
    return [answer for atoms in frames for answer in _separately(potential, [atoms])]


def _fault(frame: Atoms, prediction: object, stress: bool) -> str | None:
    """Return what is wrong with the form of a prediction, if anything."""
    if not isinstance(prediction, Prediction):
        return f"it gives {prediction!r}, no labels"
    forces = np.shape(prediction.forces_eV_per_A)
    if forces != (len(frame), 3):
        return f"forces are of shape {forces}, not {(len(frame), 3)}"
    if np.ndim(prediction.energy_eV) != 0 or prediction.energy_eV is None:
        return f"the energy is {prediction.energy_eV!r}, not a number"
    tensor = prediction.stress_eV_per_A3
    if stress and (tensor is None or np.shape(tensor) != (3, 3)):
        return "it gives no stress"
    return None


def _in_order(frames: Sequence[Atoms], done: Mapping[int, Prediction], stress: bool) -> list[Prediction]:
    return [done.get(index) or _no_numbers(frame, stress) for index, frame in enumerate(frames)]


def require_stress(potential: Potential, frame: Atoms) -> None:
    """Raise CalculatorError, in its own words, if `potential` gives no stress for `frame`."""
    _, failures = compute_each(potential, [frame], stress=True)
    if failures:
        raise CalculatorError(
            f"{potential.name}: {failures[0]}, which ensemble npt needs; take another ensemble or another calculator."
        )


def _culprit(error: BaseException, n_frames: int) -> int | None:
    """Return which of the frames `error` is about, None if it does not tell."""
    if n_frames == 1:
        return 0
    if isinstance(error, FrameFailed) and 0 <= error.index < n_frames:
        return error.index
    return None


def reason(error: BaseException) -> str:
    """Return what a potential threw, in a line. Raises DeviceLost if it is that."""
    if lost := DeviceLost.told_by(error):
        raise lost from error
    return words(error)


def words(error: BaseException) -> str:
    """Return what a potential threw, in a line: of a FrameFailed its message alone."""
    return error.message if isinstance(error, FrameFailed) else f"{type(error).__name__}: {error}"


def _no_numbers(frame: Atoms, stress: bool) -> Prediction:
    return Prediction(float("nan"), np.full((len(frame), 3), np.nan), np.full((3, 3), np.nan) if stress else None)
