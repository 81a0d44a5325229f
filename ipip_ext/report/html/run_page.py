"""The report of one run, readable by a busy person: the verdict first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ipip_ext.data.tables import Table
from ipip_ext.report.html import sections, structures, verdict
from ipip_ext.report.html.against import KINDS, Against
from ipip_ext.report.html.parts import Html, element, join, notes, page, paragraph, picture, png, table, text
from ipip_ext.report.html.structures import Worst
from ipip_ext.report.shown import Shown

Some = TypeVar("Some")


@dataclass(frozen=True)
class Findings:
    """All that the page shows.

    table: of all models, and others: smaller ones. rows: of compare.csv. unit: what a bootstrap draws, in words.
    breakdown: rows of breakdown.csv. per_frame: files of the models that are no iterations, the student first.
    pictures: PNG files by title. start_key: info key of where a frame came from. home: how far from there frames are.
    """

    shown: Shown
    table: Table
    others: Sequence[Table]
    calibration: Sequence[Table]
    home: Table
    rows: Sequence[Mapping[str, Any]]
    against: Sequence[Against]
    unit: str
    breakdown: Sequence[Mapping[str, Any]]
    per_frame: Mapping[str, Path]
    worst: Sequence[Worst]
    pictures: Mapping[str, Path]
    start_key: str


def write(path: Path, found: Findings) -> None:
    """Write the page."""
    walks = _once({name: model.stability for name, model in found.shown.models.items() if model.stability})
    curves = _once({name: model.curves for name, model in found.shown.models.items() if model.curves})
    warnings = found.shown.about.get("warnings", [])
    shown = {"What looked odd about the data": sections.warnings(warnings)} if warnings else {}
    shown |= {
        "The table": join(_main_table(found), sections.tables(found.others)),
        "Accuracy against speed": sections.pareto(found.rows, _timing_note(found.table)),
        "Parity": join(_picture(found, "parity"), sections.energy_parity(found.per_frame)),
        "Error over iterations": _picture(found, "iterations"),
        "MD stability": sections.stability(walks),
        "Properties": sections.properties(curves, found.shown.reference_curves) if curves else sections.NOTHING,
        "Calibration of the committee": join(_picture(found, "calibration"), sections.tables(found.calibration))
        if found.calibration
        else sections.NOTHING,
        "Where the student is not at home": sections.tables([found.home]),
        "Errors by element, temperature and start": sections.parts(found.breakdown, list(found.per_frame)),
        "The worst frames": structures.section(found.worst, found.start_key),
        "Where the time went": sections.time(found.shown.times),
        "Provenance": sections.provenance(found.shown.about),
    }
    title = f"{found.shown.about['name']}: the student beside its baselines"
    under = (
        f"Report of ipip-mace {found.shown.about['versions'].get('ipip-mace', '')}, seed {found.shown.about['seed']}"
    )
    path.write_text(page(title, under, _verdict(found), shown), encoding="utf-8")


def _once(measured: Mapping[str, Some]) -> dict[str, Some]:
    """Return what was measured without what is there twice: the iteration that was chosen is the student."""
    return {
        name: one for name, one in measured.items() if next(n for n, other in measured.items() if other == one) == name
    }


def _verdict(found: Findings) -> Html:
    student = next(row for row in found.rows if row["role"] == "ipip")
    shares = {
        name: None if model.stability is None else model.stability.shares.get("md_sane_share")
        for name, model in found.shown.models.items()
        if not model.is_iteration
    }
    said = verdict.sentences(found.against, found.rows, shares)
    first = paragraph(verdict.headline(found.against, student.get("force_mae_meV_per_A")))
    box = element("div", first, element("ul", *(element("li", text(line)) for line in said)), class_="verdict")
    if not found.against:
        return box
    kinds = [kind for kind in KINDS if any(a.column == kind for a in found.against)]
    tables = (table(lines, classes=marks) for lines, marks in (verdict.lines(found.against, kind) for kind in kinds))
    caveats = [
        f"Square brackets: 95 % interval by a paired bootstrap over {found.unit} of the test set, both models on the"
        " same; it tells how much the choice of test frames matters. ▼: the student errs"
        " less, ▲: more; grey: the interval holds 0, or the difference is below 1 %.",
        "One training seed: another gives other numbers. `ipip-mace compare` puts runs with several seeds together.",
    ]
    return join(box, *tables, notes(caveats))


def _main_table(found: Findings) -> Html:
    roles = {row["model"]: row["role"] for row in found.rows}
    strong = [i for i, line in enumerate(found.table.lines[1:]) if roles[line[0]] == "ipip"]
    return join(table(found.table.lines, 1, strong), notes([note for note in found.table.notes if note]))


def _timing_note(main: Table) -> str:
    return next((note for note in main.notes if note.startswith("ms/step")), "")


def _picture(found: Findings, what: str) -> Html:
    return picture(png(found.pictures[what]), what) if what in found.pictures else sections.NOTHING
