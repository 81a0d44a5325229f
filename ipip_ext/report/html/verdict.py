"""The verdict in words: how the student's errors stand to each baseline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipip_ext.report.html.against import FORCE, KINDS, UNITS, Against, digits, percent

_LIKE = 1.1
"""Speeds within this factor count as equal: timing scatters by some per cent."""


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
            f"{a.baseline}'s {a.other:.0f}{_where(a)} ({percent(a.change)})" for a in first if a.outcome == outcome
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
            own = f"{some[0].student:.{digits(column)}f} {UNITS[column]}"
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
