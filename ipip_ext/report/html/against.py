"""The student beside a baseline on the same frames, and what of it is within the chance of test frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipip_ext.measure.breakdown import Examined, read
from ipip_ext.potentials.base import Array

FORCE, ENERGY = "force_mae_meV_per_A", "energy_mae_meV_per_atom"
KINDS = {FORCE: "force", ENERGY: "energy"}
"""Columns that the verdict is about, and their names."""

_COLUMNS = {FORCE: 0, ENERGY: 3}
"""Where `Residuals.sums` has the sum of absolute errors."""

_RESAMPLES = 2000
_NOTHING = 0.01
"""A smaller difference of errors matters to nobody, however certain."""

_MOST_PERCENT, _MOST_TIMES = 200, 100
"""Above, an error is told as so many times the other's, and above that no longer exactly."""


@dataclass(frozen=True)
class Against:
    """The student's error beside a baseline's on the same frames.

    student, other: mean absolute errors, in the unit of `column`. low, high: 95 % interval of student / other - 1;
    None where it can't be had.
    """

    baseline: str
    split: str
    column: str
    student: float
    other: float
    low: float | None
    high: float | None

    @property
    def change(self) -> float:
        """How much larger the student's error is, as a share of the other's; negative: it errs less."""
        return self.student / self.other - 1 if self.other else math.inf if self.student else 0.0

    @property
    def outcome(self) -> str:
        """Return good, bad, or same where the interval holds 0 or there is none, or the difference is nothing."""
        if not math.isfinite(self.change):
            return "bad"
        if self.low is None or self.high is None or self.low <= 0 <= self.high or abs(self.change) < _NOTHING:
            return "same"
        return "good" if self.high < 0 else "bad"

    @property
    def said(self) -> str:
        """Return the change with its interval, in per cent."""
        if not math.isfinite(self.change):
            return "has no error"
        if self.low is None or self.high is None:
            return f"{percent(self.change)} (no interval)"
        ends = ", ".join(percent(end).removesuffix(" %") for end in (self.low, self.high))
        return f"{percent(self.change)} [{ends}]"

    @property
    def clause(self) -> str:
        """Return it as a part of a sentence."""
        other = f"{self.baseline}'s {self.other:.{digits(self.column)}f}"
        if self.outcome == "same":
            why = "no interval" if self.low is None else "nothing" if abs(self.change) < _NOTHING else "within chance"
            return f"not clearly different from {other} ({percent(self.change)}, {why})"
        if self.change > _MOST_PERCENT / 100:
            return f"{percent(self.change)} {other}"
        return f"{abs(self.change) * 100:.0f} % {'below' if self.outcome == 'good' else 'above'} {other}"

    @property
    def brief(self) -> str:
        """Return it without the other's number."""
        if self.outcome == "same":
            return f"not clearly different ({percent(self.change)})"
        if self.change > _MOST_PERCENT / 100:
            return f"{percent(self.change)} as large"
        return f"{abs(self.change) * 100:.0f} % {'below' if self.outcome == 'good' else 'above'}"


def against(
    exam: Examined, student: tuple[Path, Path], baselines: Mapping[str, tuple[Path, Path]],
    splits: Mapping[str, Mapping[str, Sequence[int]]],
) -> list[Against]:  # fmt: skip
    """Return the student beside each baseline on every split that both have, forces and energies.

    student, baselines: per_frame and forces of their evaluations. splits: by baseline, places of the frames of each
    split in the exam.
    Both are drawn on the same resampled frames (paired percentile bootstrap over the units of `Examined`), so that
    frames that are hard for all cancel.
    """
    mine, found = _Sums(exam, *student), []
    for name, files in baselines.items():
        theirs = _Sums(exam, *files)
        for split, places in splits[name].items():
            a, b = mine.units(places), theirs.units(places)
            for column, index in _COLUMNS.items():
                per = a[:, index + 2].sum()
                if not per:  # no frame of the split has such a label
                    continue
                errors = [float(units[:, index].sum() / per * 1e3) for units in (a, b)]
                low, high = _interval(a[:, index], b[:, index], exam.seed)
                found.append(Against(name, split, column, errors[0], errors[1], low, high))
    return found


class _Sums:
    """What the errors of one evaluation are made of, frame by frame."""

    def __init__(self, exam: Examined, per_frame: Path, forces: Path) -> None:
        self._exam = exam
        self._where, residuals = read(exam.frames, per_frame, forces)
        self._sums = residuals.sums()
        self._row = {place: row for row, place in enumerate(self._where)}

    def units(self, places: Sequence[int]) -> Array:
        """Return the sums over each unit that a bootstrap draws, (n_units, 6)."""
        rows = [self._row[place] for place in places]
        return self._exam.units([self._where[row] for row in rows], self._sums[rows])


def _interval(student: Array, other: Array, seed: int) -> tuple[float, float] | tuple[None, None]:
    n = len(student)
    if n < 2:
        return None, None
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    ours, theirs = counts @ student, counts @ other
    if (theirs <= 0).any():
        return None, None
    low, high = np.percentile(ours / theirs - 1, (2.5, 97.5))
    return float(low), float(high)


def digits(column: str) -> int:
    """Return how many decimals an error of `column` is told with."""
    return 0 if column == FORCE else 1


def percent(value: float) -> str:
    """Return a change in per cent; of one that is many times as much, how many times."""
    if value * 100 > _MOST_PERCENT:
        return f"{1 + value:.1f} times" if value < _MOST_TIMES else f"over {_MOST_TIMES} times"
    return f"{round(value * 100):+d} %".replace("-", "\N{MINUS SIGN}").replace("+0", "0")
