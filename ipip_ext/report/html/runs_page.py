"""The report over several runs: may they be compared, one table, learning curves, means over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipip_ext.data.tables import Table
from ipip_ext.report import plots
from ipip_ext.report.html import figures, sections
from ipip_ext.report.html.against import FORCE
from ipip_ext.report.html.figures import Point
from ipip_ext.report.html.parts import Html, element, join, page, picture, table, text


@dataclass(frozen=True)
class Compared:
    """All that the page shows.

    warnings: why some numbers must not be compared. means, differences: None where there are none. rows: of all runs'
    compare.csv, each with its run. origins: name, seed and record of `prepare` of each run.
    """

    warnings: Sequence[str]
    table: Table
    means: Table | None
    curves: plots.LearningCurves
    curve_tables: Sequence[Table]
    differences: Table | None
    rows: Sequence[Mapping[str, Any]]
    origins: Sequence[tuple[str, int, Mapping[str, Any]]]


def page_of(found: Compared) -> Html:
    """Return the page."""
    names = [name for name, *_ in found.origins]
    shown = {
        "The table": sections.tables([found.table]),
        "Means over seeds": _table(found.means),
        "Learning curves": _learning(found.curves, found.curve_tables),
        "Accuracy against speed": _pareto(found.rows),
        "What differs": _table(found.differences),
        "Provenance": _origins(found.origins),
    }
    top = join(
        *(element("div", text(warning), class_="warning") for warning in found.warnings),
        element("div", element("ul", *(element("li", text(line)) for line in _verdict(found.rows))), class_="verdict"),
    )
    return page(f"{len(names)} runs compared", ", ".join(names), top, shown)


def _verdict(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each run: the student's force error, and the baseline that comes nearest or is ahead."""
    found = []
    for run in dict.fromkeys(row["run"] for row in rows):
        mine = [row for row in rows if row["run"] == run and row["split"] == "test" and row.get(FORCE) is not None]
        student = next((row for row in mine if row["role"] == "ipip"), None)
        if student is None:
            found.append(f"{run}: no test frame has forces to compare.")
            continue
        others = [row for row in mine if row["role"] == "baseline"]
        said = f"{run}: the student's force error on the test frames is {student[FORCE]:.0f} meV/Å"
        if others:
            best = min(others, key=lambda row: row[FORCE])
            said += f"; the best baseline is {best['model']} with {best[FORCE]:.0f}"
        found.append(f"{said}.")
    return found


def _table(found: Table | None) -> Html:
    return sections.NOTHING if found is None else sections.tables([found])


def _learning(curves: plots.LearningCurves, tables: Sequence[Table]) -> Html:
    if not curves:
        return sections.NOTHING
    drawn = figures.svg(plots.learning_curves(curves))
    caption = "Force MAE against the number of reference labels; bars: standard deviation over seeds."
    return join(picture(drawn, "learning curves", caption), sections.tables(tables))


def _pareto(rows: Sequence[Mapping[str, Any]]) -> Html:
    splits: dict[str, list[Point]] = defaultdict(list)
    for row in rows:
        if row["md_step_ms"] is not None and row["role"] != "iteration" and row.get(FORCE) is not None:
            label = f"{row['run']}: {row['model']}"
            splits[row["split"]].append(Point(label, row["role"], row["md_step_ms"], row[FORCE]))
    if not splits:
        return sections.NOTHING
    caption = "Down and to the left is better. Times of different runs were not measured side by side."
    return picture(figures.pareto(splits), "force error against the time of an MD step", caption)


def test_files(record: Mapping[str, Any]) -> str:
    """Return the beginnings of the hashes of a run's test files, each with the name of its set if it has one."""
    given = record["fingerprint"]["inputs"]["test"]
    short = {
        name: str(value).removeprefix("sha256:")[:16]
        for name, value in (given.items() if isinstance(given, Mapping) else [("", given)])
    }
    return ", ".join(f"{name} {value}".strip() for name, value in short.items())


def _origins(origins: Sequence[tuple[str, int, Mapping[str, Any]]]) -> Html:
    head = ["run", "seed", "train", "valid", "test file (SHA-256)", "ipip-mace", "torch", "processor", "accelerator"]
    lines = []
    for name, seed, record in origins:
        counts = [str(record["values"][key]) for key in ("n_train", "n_valid")]
        versions, hardware = record.get("versions", {}), record.get("hardware", {})
        test = test_files(record)
        more = [
            versions.get("ipip-mace"),
            versions.get("torch"),
            hardware.get("processor"),
            hardware.get("accelerator"),
        ]
        lines.append([name, str(seed), *counts, test, *(str(value or "-") for value in more)])
    return table([head, *lines])
