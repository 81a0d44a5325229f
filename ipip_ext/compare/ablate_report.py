"""What an ablation found: every row in one file, means over seeds, differences in pairs, the learning curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t

from ipip_ext.data.tables import aligned, write_csv
from ipip_ext.potentials.base import Array
from ipip_ext.report import plots
from ipip_ext.report.html.against import ENERGY, FORCE
from ipip_ext.run.record import read_record
from ipip_ext.stages.report import columns, read_rows
from ipip_ext.stages.report_tables import Row

PLAN, CSV, TABLE, CURVE = "ablate.yaml", "ablate.csv", "ablate.txt", "learning_curve.png"
"""What the folder of a grid holds beside its runs."""

N_TRAIN = ("data.n_train", "data.n_labels")
_SHORT = {FORCE: "F MAE", ENERGY: "E MAE"}


@dataclass(frozen=True)
class Outcome:
    """One finished run of the grid. n_train: its training frames. rows: its compare.csv."""

    variant: str
    values: Mapping[str, str]
    seed: int
    n_train: int
    rows: list[Row]


@dataclass(frozen=True)
class Stats:
    """Mean and sample standard deviation over n seeds; sd is NaN for one seed."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: Array) -> Stats:
        """Summarise `values`, shape (seeds,)."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan, len(values))

    def __str__(self) -> str:
        return f"{self.mean:.1f} +- {self.sd:.1f}" if self.n > 1 else f"{self.mean:.1f}"

    @property
    def verdict(self) -> str:
        """Whether a mean difference is more than the scatter between seeds gives in 95 % of cases (Student's t).

        With three seeds that is 2.5 standard deviations of the differences: two would be exceeded by chance
        one time in five.
        """
        if self.n < 2:
            return "one seed: no spread"
        exceeds = abs(self.mean) > float(student_t.ppf(0.975, self.n - 1)) * self.sd / math.sqrt(self.n)
        return "exceeds the spread" if exceeds else "within the spread"


Curve = dict[str, list[tuple[float, Stats]]]
"""By split, (labels, force MAE) in the order of labels."""


def read(variant: str, values: Mapping[str, str], seed: int, folder: Path) -> Outcome:
    """Read the finished run in `folder`."""
    n_train = int(read_record(folder / "prepare", "prepare")["values"]["n_train"])
    return Outcome(variant, values, seed, n_train, read_rows(folder / "compare.csv"))


def write(folder: Path, outcomes: Sequence[Outcome]) -> tuple[list[Path], dict[str, float]]:
    """Write ablate.csv, ablate.txt and, where n_train varies, learning_curve.png; return them and metrics by key."""
    found = _Found(outcomes)
    files = [folder / CSV, folder / TABLE]
    measured = columns([row for o in outcomes for row in o.rows])
    rows = [
        {"variant": o.variant, **o.values, "seed": o.seed, "n_train": o.n_train, **row}
        for o in outcomes for row in o.rows
    ]  # fmt: skip
    write_csv(files[0], rows, ("variant", *found.keys, "seed", "n_train", *measured))
    files[1].write_text(table(outcomes) + "\n", encoding="utf-8")
    if set(N_TRAIN) & set(found.keys):
        files.append(folder / CURVE)
        curves = _curves(found)
        panels = {
            split: {name: [(labels, s.mean, s.sd) for labels, s in curve[split]] for name, curve in curves.items()}
            for split in found.splits
        }
        plots.learning_curve(files[-1], panels)
    return files, _metrics(found)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return means over seeds and differences in pairs as text."""
    found = _Found(outcomes)
    parts = [_means(found), _differences(found)]
    last = [f"{model}: the last student, whichever one validation chose as ipip." for model in found.students[1:]]
    if set(N_TRAIN) & set(found.keys):
        parts[1:1] = _curve_tables(found)
    seeds = ", ".join(map(str, found.seeds))
    notes = [
        "F in meV/A (over all components), E in meV/atom."
        f" a +- b: mean and sample standard deviation over seeds {seeds}.",
        "Differences are taken seed by seed; negative: the first has the lower error. `exceeds the spread`:"
        " |mean| > t sd/sqrt(n), with Student's t for 95 %.",
        "Chance alone exceeds it in one difference of twenty: of many differences, some will.",
        *last,
    ]
    return "\n\n".join([*(part for part in parts if part), "\n".join(notes)])


class _Found:
    """The outcomes, looked up by variant, model, split and column."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.keys = list(outcomes[0].values)
        self.seeds = list(dict.fromkeys(o.seed for o in outcomes))
        self.variants = {o.variant: o.values for o in outcomes}
        self.splits = list(dict.fromkeys(str(row["split"]) for o in outcomes for row in o.rows))
        self.labels = {v: np.mean([o.n_train for o in outcomes if o.variant == v]) for v in self.variants}
        self._rows = {(o.variant, o.seed, row["model"], row["split"]): row for o in outcomes for row in o.rows}
        self.varies_data = any(key.startswith("data.") for key in self.keys)

    @property
    def models(self) -> list[str]:
        """The models of the table: scratch too where its training data vary."""
        has_scratch = any(model == "scratch" for _, _, model, _ in self._rows)
        return [*self.students, "scratch"] if self.varies_data and has_scratch else self.students

    @property
    def students(self) -> list[str]:
        """The student that validation chose and, where forgetting varies, the last one.

        Where forgetting does harm, validation takes the iteration before it, and the variants would look alike.
        """
        later = {str(model) for _, _, model, _ in self._rows if str(model).startswith("iteration-")} - {"iteration-0"}
        if not later or all(key.split(".")[0] != "forget" for key in self.keys):
            return ["ipip"]
        return ["ipip", max(later, key=lambda model: int(model.removeprefix("iteration-")))]

    @property
    def measures(self) -> list[tuple[str, str]]:
        """(split, column) of every number in the table."""
        return [*((split, FORCE) for split in self.splits), (self.splits[0], ENERGY)]

    def series(self, variant: str, model: str, split: str, column: str) -> Array | None:
        """Return the number for every seed, shape (seeds,); None where a run lacks the model or the split."""
        rows = [self._rows.get((variant, seed, model, split)) for seed in self.seeds]
        return None if None in rows else np.array([row[column] for row in rows if row], dtype=float)

    def pairs(self) -> list[tuple[str, tuple[str, str], tuple[str, str]]]:
        """Return (title, (variant, model), (variant, model)) of every difference worth telling.

        A variant is set against the first one; where data are varied beside other keys, against the first with the
        same data. Where data are varied, the student is also set against the one from scratch.
        """
        data = [key for key in self.keys if key.startswith("data.")]
        only_data = len(data) == len(self.keys)
        pairs = []
        for model in self.models if only_data else self.students:
            for variant, values in self.variants.items():
                first = next(v for v, o in self.variants.items() if only_data or all(o[k] == values[k] for k in data))
                if first != variant:
                    pairs.append((f"{model}: {variant} - {first}", (variant, model), (first, model)))
        if "scratch" in self.models:
            pairs += [(f"{v}: ipip - scratch", (v, "ipip"), (v, "scratch")) for v in self.variants]
        return pairs


def _means(found: _Found) -> str:
    head = ["variant", "model", "labels", "seeds", *(f"{split} {_SHORT[column]}" for split, column in found.measures)]
    lines = [head]
    for variant in found.variants:
        for model in found.models:
            series = [found.series(variant, model, *measure) for measure in found.measures]
            cells = ["-" if values is None else str(Stats.of(values)) for values in series]
            lines.append([variant, model, f"{found.labels[variant]:.0f}", str(len(found.seeds)), *cells])
    return aligned(lines, left=2)


def _differences(found: _Found) -> str:
    lines = [["difference", "of", "mean", "sd", "seeds", ""]]
    for title, one, other in found.pairs():
        for split, column in found.measures:
            a, b = found.series(*one, split, column), found.series(*other, split, column)
            if a is None or b is None:
                continue
            s = Stats.of(a - b)
            spread = f"{s.sd:.1f}" if s.n > 1 else "-"
            lines.append([title, f"{split} {_SHORT[column]}", f"{s.mean:+.1f}", spread, str(s.n), s.verdict])
    return aligned(lines, left=2) if len(lines) > 1 else ""


def _curves(found: _Found) -> dict[str, Curve]:
    """Return the force MAE over labels by name of curve: a model, and the values of what else is varied."""
    curves: dict[str, Curve] = {}
    for model in found.models:
        mine: dict[str, Curve] = {}
        for variant, values in sorted(found.variants.items(), key=lambda item: found.labels[item[0]]):
            others = [f"{key}={value}" for key, value in values.items() if key not in N_TRAIN]
            curve = mine.setdefault(", ".join([model, *others]), {split: [] for split in found.splits})
            for split in found.splits:
                series = found.series(variant, model, split, FORCE)
                if series is not None:
                    curve[split].append((float(found.labels[variant]), Stats.of(series)))
        is_one = len({repr(curve) for curve in mine.values()}) == 1  # such as scratch, where label.policy is varied
        curves |= {model: next(iter(mine.values()))} if is_one else mine
    return curves


def _curve_tables(found: _Found) -> list[str]:
    """Return a table for each split: labels down, curves across."""
    curves, tables = _curves(found), []
    for split in found.splits:
        cells = {(labels, name): str(stats) for name in curves for labels, stats in curves[name][split]}
        steps = sorted({labels for labels, _ in cells})
        lines = [[f"{labels:.0f}", *(cells.get((labels, name), "-") for name in curves)] for labels in steps]
        tables.append(aligned([[f"{split} F MAE by labels", *curves], *lines], left=0))
    return tables


def _metrics(found: _Found) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for variant in found.variants:
        for model in found.models:
            for split, column in found.measures:
                series = found.series(variant, model, split, column)
                if series is not None:
                    s = Stats.of(series)
                    key = f"{variant}/{model}_{split}_{column}"
                    metrics |= {f"{key}_mean": s.mean} | ({f"{key}_sd": s.sd} if s.n > 1 else {})
    return metrics
