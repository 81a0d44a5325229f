"""The verdict: how the student's errors stand to each baseline's, and what is within the chance of test frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ipip_ext.data import frames as fr
from ipip_ext.measure.breakdown import Exam, read
from ipip_ext.potentials.base import Array

FORCE, ENERGY = "force_mae_meV_per_A", "energy_mae_meV_per_atom"
KINDS = {FORCE: "force", ENERGY: "energy"}
"""Columns that the verdict is about, and their names."""

_UNITS = {FORCE: "meV/Å", ENERGY: "meV/atom"}
_COLUMNS = {FORCE: 0, ENERGY: 3}
"""Where `Residuals.sums` has the sum of absolute errors."""

_RESAMPLES = 2000
_NOTHING = 0.01
"""A smaller difference of errors matters to nobody, however certain."""

_MOST_PERCENT, _MOST_TIMES = 200, 100
"""Above, an error is told as so many times the other's, and above that no longer exactly."""

_LIKE = 1.1
"""Speeds within this factor count as equal: timing scatters by some per cent."""


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
            return f"{_percent(self.change)} (no interval)"
        ends = ", ".join(_percent(end).removesuffix(" %") for end in (self.low, self.high))
        return f"{_percent(self.change)} [{ends}]"

    @property
    def clause(self) -> str:
        """Return it as a part of a sentence."""
        other = f"{self.baseline}'s {self.other:.{_digits(self.column)}f}"
        if self.outcome == "same":
            why = "no interval" if self.low is None else "nothing" if abs(self.change) < _NOTHING else "within chance"
            return f"not clearly different from {other} ({_percent(self.change)}, {why})"
        if self.change > _MOST_PERCENT / 100:
            return f"{_percent(self.change)} {other}"
        return f"{abs(self.change) * 100:.0f} % {'below' if self.outcome == 'good' else 'above'} {other}"


def against(
    exam: Exam, student: tuple[Path, Path], baselines: Mapping[str, tuple[Path, Path]],
    splits: Mapping[str, Mapping[str, Sequence[str]]],
) -> list[Against]:  # fmt: skip
    """Return the student beside each baseline on every split that both have, forces and energies.

    student, baselines: per_frame and forces of their evaluations. splits: by baseline, ids of the frames of each split.
    Both are drawn on the same resampled frames (paired percentile bootstrap over the units of `Exam`), so that frames
    that are hard for all cancel.
    """
    mine, found = _Sums(exam, *student), []
    for name, files in baselines.items():
        theirs = _Sums(exam, *files)
        for split, ids in splits[name].items():
            a, b = mine.units(ids), theirs.units(ids)
            for column, index in _COLUMNS.items():
                per = a[:, index + 2].sum()
                errors = [float(units[:, index].sum() / per * 1e3) for units in (a, b)]
                low, high = _interval(a[:, index], b[:, index], exam.seed)
                found.append(Against(name, split, column, errors[0], errors[1], low, high))
    return found


class _Sums:
    """What the errors of one evaluation are made of, frame by frame."""

    def __init__(self, exam: Exam, per_frame: Path, forces: Path) -> None:
        self._exam = exam
        self._where, residuals = read(exam.frames, per_frame, forces)
        self._sums = residuals.sums()
        self._row = {str(exam.frames[i].info[fr.ID]): row for row, i in enumerate(self._where)}

    def units(self, ids: Sequence[str]) -> Array:
        """Return the sums over each unit that a bootstrap draws, (n_units, 6)."""
        rows = [self._row[name] for name in ids]
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


def headline(found: Sequence[Against], student_mae_meV_per_A: float) -> str:
    """Return the verdict on forces in a sentence."""
    first = _first(found, FORCE)
    if not first:
        return (
            f"The student's force error is {student_mae_meV_per_A:.0f} meV/Å; this recipe names no baseline, so nothing"
            " says whether that is good."
        )
    said = []
    for outcome, words in _WORDS.items():
        names = [
            f"{a.baseline}'s {a.other:.0f}{_where(a)} ({_percent(a.change)})" for a in first if a.outcome == outcome
        ]
        said += [f"{words} {_listed(names)}"] if names else []
    return f"The student's force error on the test frames is {student_mae_meV_per_A:.0f} meV/Å: {'; '.join(said)}."


_WORDS = {"good": "below", "bad": "above", "same": "not clearly different from"}


def sentences(
    found: Sequence[Against], rows: Sequence[Mapping[str, Any]], shares: Mapping[str, float | None]
) -> list[str]:  # fmt: skip
    """Return what `headline` does not say: a sentence for each other split and kind of error, then speed and MD.

    rows: of compare.csv. shares: of sane MD by model, where that was measured.
    """
    said = []
    n_frames = {row["split"]: row["n_frames"] for row in rows if row["role"] == "ipip"}
    for column, kind in KINDS.items():
        mine = [a for a in found if a.column == column and (a.split, a.column) != ("test", FORCE)]
        for split in dict.fromkeys(a.split for a in mine):
            some = [a for a in mine if a.split == split]
            own = f"{some[0].student:.{_digits(column)}f} {_UNITS[column]}"
            clauses = "; ".join(a.clause for a in some)
            said.append(f"{_place(split)} ({n_frames.get(split, '?')} frames), {kind} error {own}: {clauses}.")
    return [*said, *_speed(rows), *_md(shares)]


def _speed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    times = {row["model"]: row["md_step_ms"] for row in rows if row["role"] != "iteration" and row["md_step_ms"]}
    own = next((row["md_step_ms"] for row in rows if row["role"] == "ipip"), None)
    if own is None:
        return []
    clauses = []
    for name, other in times.items():
        if other > own * _LIKE:
            clauses.append(f"{other / own:.1f} times faster than {name} ({other:.1f} ms)")
        elif other * _LIKE < own:
            clauses.append(f"{own / other:.1f} times slower than {name} ({other:.1f} ms)")
    return [f"The student's MD step takes {own:.1f} ms" + "".join(f"; {clause}" for clause in clauses) + "."]


def _md(shares: Mapping[str, float | None]) -> list[str]:
    known = {name: share for name, share in shares.items() if share is not None}
    if not known:
        return []
    return ["MD that ended sanely: " + "; ".join(f"{name} {share:.0%}" for name, share in known.items()) + "."]


def lines(found: Sequence[Against]) -> tuple[list[list[str]], dict[tuple[int, int], str]]:
    """Return the student's error relative to each baseline's as a table, and the outcome of each cell."""
    columns = list(dict.fromkeys((a.split, a.column) for a in found))
    columns.sort(key=lambda c: list(KINDS).index(c[1]))
    cells = {(a.baseline, a.split, a.column): a for a in found}
    told = [["student's error relative to", *(f"{split}, {KINDS[column]}" for split, column in columns)]]
    marks: dict[tuple[int, int], str] = {}
    for row, name in enumerate(dict.fromkeys(a.baseline for a in found)):
        mine = [cells.get((name, *column)) for column in columns]
        told.append([name, *("-" if a is None else a.said for a in mine)])
        marks |= {(row, i): a.outcome for i, a in enumerate(mine, start=1) if a is not None}
    return told, marks


def _first(found: Sequence[Against], column: str) -> list[Against]:
    """Return the first split of each baseline, which is the whole test set where it can do that."""
    kept: dict[str, Against] = {}
    for a in found:
        if a.column == column:
            kept.setdefault(a.baseline, a)
    return list(kept.values())


_PLACES = {"test": "All test frames", "test_id": "In distribution", "test_ood": "Out of distribution"}


def _place(split: str) -> str:
    return _PLACES.get(split, f"On {split}")


def _where(a: Against) -> str:
    """Return of which frames an error is, where not of all."""
    return "" if a.split == "test" else f" on {a.split}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _digits(column: str) -> int:
    return 0 if column == FORCE else 1


def _percent(value: float) -> str:
    """Return a change in per cent; of one that is many times as much, how many times."""
    if value * 100 > _MOST_PERCENT:
        return f"{1 + value:.1f} times" if value < _MOST_TIMES else f"over {_MOST_TIMES} times"
    return f"{round(value * 100):+d} %".replace("-", "\N{MINUS SIGN}").replace("+0", "0")
