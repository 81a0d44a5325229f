"""What a frame and its labels count for, as its file says under MACE's names (`config_weight` and others).

A frame of weight 0 is left out before anything is learnt from its file; other weights count in losses, in the fits of
energy zeros and of a correction, and those of 0 in no error on validation frames. On test frames they count nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext.data.keys import ID, LABEL_WEIGHTS, OF_FRAME, WEIGHT, WEIGHTS
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Array


def weight_of(frame: Atoms, key: str) -> float:
    """Return what `frame.info[key]` says, 1 where it says nothing. Raises DataError for no finite number from 0 on."""
    value = frame.info.get(key, 1.0)
    try:
        weight = math.nan if isinstance(value, bool | str | np.bool_) else float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise DataError(f"{key} is {value!r}; it must be a finite number, 0 or larger.")
    return weight


def label_weight(frame: Atoms, label: str) -> float:
    """Return what the `energy`, `forces` or `stress` of a frame counts for by its file, the frame's weight included."""
    return weight_of(frame, OF_FRAME) * weight_of(frame, LABEL_WEIGHTS[label])


def own_weight(frame: Atoms) -> float:
    """Return what a frame counts for by who labelled it."""
    return float(frame.info.get(WEIGHT, 1.0))


def label_weights(frames: Sequence[Atoms], label: str) -> Array | None:
    """Return what the energies, forces or stresses of frames count for, (n_frames,); None where all count as 1."""
    weights = np.array([label_weight(frame, label) for frame in frames])
    return None if (weights == 1).all() else weights


def counted(frames: Sequence[Atoms], *labels: str) -> list[Atoms]:
    """Return the frames whose `labels`, of energy, forces and stress, all count; all frames if none does."""
    found = [frame for frame in frames if all(label_weight(frame, label) > 0 for label in labels)]
    return found or list(frames)


def check_weights(path: Path, frames: Sequence[Atoms]) -> None:
    """Raise DataError, naming file, frame and key, for a weight that is no finite number from 0 on."""
    for index, frame in enumerate(frames):
        for key in WEIGHTS:
            try:
                weight_of(frame, key)
            except DataError as error:
                raise DataError(f"{path}: frame {frame.info.get(ID, index)}: {error}") from None


def check_some_count(path: Path, frames: Sequence[Atoms]) -> None:
    """Raise DataError, naming file, frame and key, where no energy or no forces count for anything."""
    for label in ("energy", "forces"):
        if not any(label_weight(frame, label) for frame in frames):
            key = next(key for key in (OF_FRAME, LABEL_WEIGHTS[label]) if weight_of(frames[0], key) == 0)
            raise DataError(
                f"{path}: {key} is 0 in frame {frames[0].info.get(ID, 0)}, and no other frame's {label} counts either;"
                f" give some a weight above 0, or take {key} out."
            )


def without_weightless(frames: Sequence[Atoms]) -> list[Atoms]:
    """Return the frames that count at all."""
    return [frame for frame in frames if weight_of(frame, OF_FRAME) > 0]


def told(path: Path, what: str, frames: Sequence[Atoms]) -> list[str]:
    """Return a sentence on each key by which some of `frames` count otherwise than as 1. what: which they are."""
    said = []
    for key in WEIGHTS:
        weights = np.array([weight_of(frame, key) for frame in frames])
        n_zero = int((weights == 0).sum())
        if n_zero:
            gone = " and are left out" if key == OF_FRAME else ""
            said.append(f"{path.name}: {n_zero} of {len(frames)} {what} frames have {key} 0{gone}.")
        some = weights[weights > 0]
        if (some != 1).any():
            said.append(
                f"{path.name}: {key} of {what} frames is {some.min():g} to {some.max():g}; losses and fits obey it."
            )
    return said
