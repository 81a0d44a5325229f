"""Several finished runs side by side: one table, means over seeds, learning curves, and whether that is fair."""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ipip_ext.compare.ablate_report import Stats
from ipip_ext.compare.finished import Run
from ipip_ext.data.tables import Table
from ipip_ext.errors import WorkspaceError
from ipip_ext.report.html import parts, runs_page, sections
from ipip_ext.report.html.against import ENERGY, FORCE
from ipip_ext.report.plots import LearningCurves
from ipip_ext.run.layout import TABLE
from ipip_ext.stages.report_tables import cells

_LABELS = ("data.n_train", "data.n_labels", "data.train", "label.reference.")
"""Beginnings of keys that decide how many reference labels there are: a learning curve goes along them."""

_MEANS = ((FORCE, "F MAE", ".0f"), (ENERGY, "E MAE", ".1f"))
_MOST_KEYS = 30


@dataclass(frozen=True)
class Comparison:
    """Runs, and what can be said of them together."""

    runs: Sequence[Run]

    def warnings(self) -> list[str]:
        """Return why some numbers must not be compared; empty if all may be."""
        found = []
        tests = _grouped((run.test, run.name) for run in self.runs)
        if len(tests) > 1:
            said = "; ".join(f"{', '.join(names)}: {_short(test[0])}" for test, names in tests.items())
            found.append(f"NOT COMPARABLE: the runs have different test frames ({said}).")
        splits = _grouped(
            (repr([v for k, v in sorted(run.recipe.items()) if k.startswith("data.ood")]), run.name)
            for run in self.runs
        )
        if len(splits) > 1:
            said = "; ".join(", ".join(names) for names in splits.values())
            found.append(f"test_id and test_ood are other frames in each of: {said} (data.ood differs).")
        return found

    def table(self) -> Table:
        """Return all models of all runs but iterations."""
        rows = [{"run": run.name, **row} for run in self.runs for row in run.rows if row["role"] != "iteration"]
        n_frames = {row["split"]: row["n_frames"] for row in self.runs[0].rows}
        counts = ", ".join(f"{count} in {split}" for split, count in n_frames.items())
        notes = [f"F in meV/A (over all components), E in meV/atom. Iterations are in each run's own {TABLE}."]
        if not self.warnings():
            notes.append(f"Test frames: the same file in all runs ({_short(self.runs[0].test[0])}): {counts}.")
        notes.append("ms/step: timed with the other models of its run; only ratios inside a run tell something.")
        return Table(cells(rows, by=("run", "model")), notes, left=2)

    @cached_property
    def groups(self) -> dict[str, list[Run]]:
        """Runs that differ in nothing but the seed, by what their names begin with."""
        found: dict[str, list[Run]] = {}
        for some in _grouped((repr(sorted(run.choices.items())), run) for run in self.runs).values():
            names = [run.name for run in some]
            start = os.path.commonprefix(names)  # noqa: RUF071 - of names, not of folders
            start = re.sub(r"[-_./]*(seed)?[-_./]*$", "", start) if len(names) > 1 else names[0]
            found[start if start and start not in found else ", ".join(names)] = some
        return found

    def means(self) -> Table | None:
        """Return means and standard deviations over seeds; None where no two runs differ in the seed alone."""
        groups = {name: runs for name, runs in self.groups.items() if len({run.seed for run in runs}) > 1}
        if not groups:
            return None
        splits = list(dict.fromkeys(row["split"] for runs in groups.values() for run in runs for row in run.rows))
        wanted = [(s, column, f"{s} {said}", how) for column, said, how in _MEANS for s in splits]
        wanted.append((splits[0], "md_step_ms", "ms/step", ".1f"))
        lines = [["runs", "model", "seeds", *(head for *_, head, _ in wanted)]]
        for name, runs in groups.items():
            cell = {(run.seed, row["model"], row["split"]): row for run in runs for row in run.rows}
            seeds = sorted({run.seed for run in runs})
            for model in dict.fromkeys(row["model"] for run in runs for row in run.rows if row["role"] != "iteration"):
                told = []
                for split, column, _, how in wanted:
                    values = [cell.get((seed, model, split), {}).get(column) for seed in seeds]
                    told.append(_mean_sd([value for value in values if value is not None], how))
                lines.append([name, model, ", ".join(map(str, seeds)), *told])
        return Table(lines, ["a +- b: mean and sample standard deviation over seeds."], left=2)

    def differences(self) -> Table | None:
        """Return the recipe keys in which the groups differ; None where there is one group."""
        if len(self.groups) < 2:
            return None
        keys = self._differing()
        lines = [["key", *self.groups]]
        firsts = [runs[0].choices for runs in self.groups.values()]
        lines += [[key, *(_short(one.get(key, "-")) for one in firsts)] for key in keys[:_MOST_KEYS]]
        more = [f"and {len(keys) - _MOST_KEYS} more"] if len(keys) > _MOST_KEYS else []
        return Table(lines, more)

    def _differing(self) -> list[str]:
        choices = [runs[0].choices for runs in self.groups.values()]
        keys = sorted({key for one in choices for key in one})
        return [key for key in keys if len({repr(one.get(key)) for one in choices}) > 1]

    def curves(self) -> LearningCurves:
        """Return force MAE over the number of reference labels, mean and sd over seeds; empty if that is one number.

        A line for each trained model; where runs differ in more than labels, for each choice of the rest.
        """
        rest = [key for key in self._differing() if not key.startswith(_LABELS)]
        points: dict[str, dict[str, dict[float, list[float]]]] = defaultdict(lambda: defaultdict(dict))
        for run in self.runs:
            choice = "".join(f", {key}={_short(run.choices.get(key, '-'))}" for key in rest)
            for row in run.rows:
                labels = run.n_labels(row)
                if labels and row["role"] != "iteration" and row.get(FORCE) is not None:
                    line = points[row["split"]][f"{row['model']}{choice}"]
                    line.setdefault(labels, []).append(row[FORCE])
        found = {
            split: {name: _points(some) for name, some in lines.items() if len(some) > 1}
            for split, lines in points.items()
        }
        return {split: lines for split, lines in found.items() if lines}

    def curve_tables(self) -> list[Table]:
        """Return the learning curves as tables: labels down, models across."""
        tables = []
        for split, lines in self.curves().items():
            steps = sorted({labels for points in lines.values() for labels, *_ in points})
            cell = {(labels, name): _mean_sd_of(mean, sd) for name, p in lines.items() for labels, mean, sd in p}
            body = [[f"{labels:.0f}", *(cell.get((labels, name), "-") for name in lines)] for labels in steps]
            tables.append(Table([[f"{split} F MAE by labels", *lines], *body], left=0))
        return tables

    def __str__(self) -> str:
        """Return all tables; of a single run its own, whole."""
        return self.runs[0].text if len(self.runs) == 1 else "\n\n".join(map(str, [*self.warnings(), *self._tables()]))

    def _repr_html_(self) -> str:
        said = (parts.element("div", parts.text(warning), class_="warning") for warning in self.warnings())
        return parts.join(*said, sections.tables(self._tables()))

    def _tables(self) -> list[Table]:
        found = [self.table(), self.means(), *self.curve_tables(), self.differences()]
        return [table for table in found if table is not None]

    def write_html(self, path: str | Path) -> None:
        """Write the page. Raises WorkspaceError where that can't be."""
        shown = runs_page.Compared(
            warnings=self.warnings(), table=self.table(), means=self.means(), curves=self.curves(),
            curve_tables=self.curve_tables(), differences=self.differences(),
            rows=[{"run": run.name, **row} for run in self.runs for row in run.rows],
            origins=[(run.name, run.seed, run.record) for run in self.runs],
        )  # fmt: skip
        try:
            Path(path).write_text(runs_page.page_of(shown), encoding="utf-8")
        except OSError as error:
            raise WorkspaceError(f"{path}: can't be written ({error.strerror}); name another file.") from None


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _points(some: Mapping[float, Sequence[float]]) -> list[tuple[float, float, float]]:
    stats = {labels: Stats.of(np.array(values, dtype=float)) for labels, values in sorted(some.items())}
    return [(labels, s.mean, s.sd) for labels, s in stats.items()]


def _mean_sd(values: Sequence[float], how: str = ".1f") -> str:
    if not values:
        return "-"
    stats = Stats.of(np.array(values, dtype=float))
    return _mean_sd_of(stats.mean, stats.sd, how)


def _mean_sd_of(mean: float, sd: float, how: str = ".1f") -> str:
    return f"{mean:{how}}" if math.isnan(sd) else f"{mean:{how}} +- {sd:{how}}"


def _short(value: Any) -> str:
    """Return a value as it may stand in a table; of a hash its beginning."""
    said = str(value)
    return said[:15] if said.startswith("sha256:") else said if len(said) <= 40 else f"{said[:37]}..."
