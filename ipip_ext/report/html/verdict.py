"""The verdict in words: how the student's errors stand to each baseline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipip_ext.report.html.against import ENERGY, FORCE, KINDS, Against

_LIKE = 1.1
"""Speeds within this factor count as equal: timing scatters by some per cent."""


def headline(found: Sequence[Against], student_mae_meV_per_A: float | None) -> str:
    """Return the verdict on forces in a sentence: against the teacher, or else against the first baseline.

    student_mae_meV_per_A: None where no test frame has forces.
    """
    first = {a.baseline: a for a in _first(found, FORCE)}
    if student_mae_meV_per_A is None:
        return "No test frame has forces to compare; energies are compared alone."
    own = f"{student_mae_meV_per_A:.0f} meV/Å"
    if not first:
        return (
            f"The student's force error is {own}; this recipe names no baseline, so nothing says whether that is good."
        )
    a = first[chiefs(list(first))[0]]
    where = "" if a.split == "test" else f" on {a.split}"
    return f"The student's force error on the test frames is {own}:{where} {a.clause}."


def chiefs(names: Sequence[str]) -> list[str]:
    """Return the two baselines that everyone asks about: teacher and from scratch, where they are there."""
    asked = [name for start in ("teacher", "scratch") for name in names if name.startswith(start)]
    return list(dict.fromkeys([*asked, *names]))[:2]


def sentences(
    found: Sequence[Against], rows: Sequence[Mapping[str, Any]], shares: Mapping[str, float | None]
) -> list[str]:  # fmt: skip
    """Return what `headline` does not say, a sentence each: the two chief baselines, the others, speed, and MD.

    All else is in the tables. rows: of compare.csv. shares: of sane MD by model, where that was measured.
    """
    names = list(dict.fromkeys(a.baseline for a in found))
    asked = chiefs(names)
    said = [_beside(name, [a for a in found if a.baseline == name]) for name in asked]
    return [*said, *_others([a for a in _first(found, FORCE) if a.baseline not in asked]), *_speed(rows), *_md(shares)]


def _beside(name: str, mine: Sequence[Against]) -> str:
    """Return a sentence on a baseline: forces on all frames and apart, energies on all."""
    first = mine[0].split
    forces = [f"{a.brief}{_PLACES.get(a.split, f' on {a.split}')}" for a in mine if a.column == FORCE]
    energies = [f"{a.brief}{_PLACES.get(a.split, '')}" for a in mine if (a.column, a.split) == (ENERGY, first)]
    parts = [f"force error {', '.join(forces)}" if forces else "", *(f"energy error {words}" for words in energies)]
    return f"Beside {name}: {'; '.join(filter(None, parts))}."


_PLACES = {"test": "", "test_id": " in distribution", "test_ood": " out of distribution"}


def _others(first: Sequence[Against]) -> list[str]:
    """Return a sentence on the force errors of all other baselines; those that are not behind have their names."""
    if not first:
        return []
    names = {outcome: [a.baseline for a in first if a.outcome == outcome] for outcome in ("good", "same", "bad")}
    said = [f"Of {len(first)} other baseline{'s' * (len(first) > 1)} {len(names['good'])} clearly err more in forces"]
    said += [f"not clearly different: {', '.join(names['same'])}"] if names["same"] else []
    said += [f"clearly better than the student: {', '.join(names['bad'])}"] if names["bad"] else []
    return ["; ".join(said) + "."]


def _speed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    times = {row["model"]: row["md_step_ms"] for row in rows if row["role"] != "iteration" and row["md_step_ms"]}
    own = next((row["md_step_ms"] for row in rows if row["role"] == "ipip"), None)
    if own is None:
        return []
    baselines = list(dict.fromkeys(row["model"] for row in rows if row["role"] == "baseline"))
    asked = [name for name in chiefs(baselines) if name in times]
    clauses = []
    for name in asked:
        if times[name] > own * _LIKE:
            clauses.append(f"{times[name] / own:.1f} times faster than {name} ({times[name]:.1f} ms)")
        elif times[name] * _LIKE < own:
            clauses.append(f"{own / times[name]:.1f} times slower than {name} ({times[name]:.1f} ms)")
    faster = [name for name in baselines if name not in asked and times.get(name, own) * _LIKE < own]
    clauses += [f"faster than the student are {', '.join(faster)}"] if faster else []
    return [f"The student's MD step takes {own:.1f} ms" + "".join(f"; {clause}" for clause in clauses) + "."]


def _md(shares: Mapping[str, float | None]) -> list[str]:
    known = {name: share for name, share in shares.items() if share is not None}
    if not known:
        return []
    return ["MD that ended sanely: " + "; ".join(f"{name} {share:.0%}" for name, share in known.items()) + "."]


def lines(found: Sequence[Against], column: str) -> tuple[list[list[str]], dict[tuple[int, int], str]]:
    """Return the student's error of one kind relative to each baseline's as a table, and the outcome of each cell."""
    splits = list(dict.fromkeys(a.split for a in found if a.column == column))
    cells = {(a.baseline, a.split): a for a in found if a.column == column}
    told = [[f"student's {KINDS[column]} error relative to", *splits]]
    marks: dict[tuple[int, int], str] = {}
    for row, name in enumerate(dict.fromkeys(a.baseline for a in found)):
        mine = [cells.get((name, split)) for split in splits]
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
