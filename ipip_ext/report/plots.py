"""Pictures: parity of forces and error over iterations of a run, error over labels of an ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter
from numpy.typing import NDArray

from ipip_ext.run.printable import one_line


def plain(text: str) -> str:
    """Return a name as matplotlib shows it: no dollar begins a formula, no underscore hides it from a legend."""
    shown = one_line(text)
    return ("\u200b" if shown.startswith("_") else "") + shown.replace("$", r"\$")


_MOST_ACROSS = 4
"""Panels beside each other: of more the numbers at their axes can't be read."""


def parity(path: Path, forces: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> None:
    """Plot predicted against reference force components, a panel for each model, all test frames."""
    across = min(len(forces), _MOST_ACROSS)
    down = -(-len(forces) // across)
    figure = Figure(figsize=(3.4 * across, 3.7 * down + 0.3), layout="compressed")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for spare in panels[len(forces) :]:
        spare.set_axis_off()
    # predictions too, so that no outlier falls off the picture
    limit = max([1e-6, *(float(np.nanmax(np.abs(v))) for pair in forces.values() for v in _labelled(pair) if v.size)])
    limit *= 1.05
    for panel, (name, pair) in zip(panels, forces.items(), strict=False):
        reference, predicted = _labelled(pair)
        mae = (
            f"MAE {np.mean(np.abs(predicted - reference)) * 1e3:.0f} meV/Å"
            if reference.size
            else "no forces to compare"
        )
        panel.plot([-limit, limit], [-limit, limit], color="0.6", linewidth=0.8, zorder=0)
        panel.scatter(reference, predicted, s=4, alpha=0.4, linewidths=0)
        panel.set_title(f"{plain(name)}\n{mae}", fontsize=10)
        panel.set(xlim=(-limit, limit), ylim=(-limit, limit))
        panel.set_xlabel("reference force (eV/Å)")
        panel.set_aspect("equal")
    for first in panels[::across]:
        first.set_ylabel("predicted force (eV/Å)")
    figure.savefig(path, dpi=130 if down == 1 else 95)


def _labelled(pair: Mapping[str, NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return reference and predicted components of the atoms whose reference is known."""
    reference, predicted = pair["reference"].ravel(), pair["predicted"].ravel()
    known = np.isfinite(reference)
    return (reference, predicted) if known.all() else (reference[known], predicted[known])


def iterations(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Plot the force MAE of the student after each iteration, with the baselines as lines, where there are forces."""
    rows = [row for row in rows if row.get("force_mae_meV_per_A") is not None]
    splits = list(dict.fromkeys(str(row["split"]) for row in rows)) or ["test"]
    figure = Figure(figsize=(3.6 * len(splits), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, split in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits, strict=True):
        here = [row for row in rows if row["split"] == split]
        steps = [row["force_mae_meV_per_A"] for row in here if row["role"] == "iteration"]
        panel.plot(range(len(steps)), steps, marker="o", color="C0", label="student")
        baselines = [row for row in here if row["role"] == "baseline"]
        for index, row in enumerate(baselines, start=1):
            style = ("--", "-.", ":")[(index - 1) % 3]
            panel.axhline(row["force_mae_meV_per_A"], color=f"C{index}", linestyle=style, label=plain(row["model"]))
        panel.set(title=split, xlabel="iteration", ylabel="force MAE (meV/Å)", ylim=(0, None))
        panel.set_xticks(range(len(steps)))
        if here:
            panel.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def calibration(
    path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]], error_per_spread: float
) -> None:  # fmt: skip
    """Plot the RMS error of force components against the committee's RMS spread, bin by bin.

    curves: by name, points with spread_meV_per_A and error_meV_per_A. error_per_spread: the line that was fitted.
    """
    figure = Figure(figsize=(4.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    points = [(p["spread_meV_per_A"], p["error_meV_per_A"]) for curve in curves.values() for p in curve]
    positive = np.array([point for point in points if min(point) > 0] or [(1.0, 1.0)])
    ends = np.array([positive[:, 0].min(), positive[:, 0].max()])
    panel.plot(ends, ends, color="0.6", linestyle=":", label="error = spread")
    panel.plot(ends, error_per_spread * ends, color="0.3", label=f"expected: {error_per_spread:.2f} x spread")
    for name, curve in curves.items():
        panel.plot(*zip(*((p["spread_meV_per_A"], p["error_meV_per_A"]) for p in curve), strict=True), "o-", label=name)
    panel.set(xlabel="committee spread (meV/Å)", ylabel="RMS force error (meV/Å)")
    if (positive.max(axis=0) > 10 * positive.min(axis=0)).any():
        panel.set(xscale="log", yscale="log")
    panel.legend(fontsize=8)
    figure.savefig(path, dpi=130)


LearningCurves = Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]]
"""By split and name, points (labels, mean, standard deviation)."""


def learning_curve(path: Path, curves: LearningCurves) -> None:
    """Write `learning_curves` to a file."""
    learning_curves(curves).savefig(path, dpi=130)


def learning_curves(curves: LearningCurves) -> Figure:
    """Return force MAE against the number of labels, a panel for each split.

    curves: by split and name, points (labels, mean, standard deviation); NaN draws no error bar.
    """
    figure = Figure(figsize=(3.6 * len(curves), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (split, lines) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for name, points in lines.items():
            labels, mean, sd = np.array(points, dtype=float).reshape(-1, 3).T
            style = "--" if name.startswith("scratch") else "-"
            panel.errorbar(labels, mean, yerr=sd, marker="o", linestyle=style, capsize=3, label=plain(name))
        panel.set(title=split, xlabel="labels", ylabel="force MAE (meV/Å)", xscale="log", yscale="log")
        ticks = sorted({labels for points in lines.values() for labels, _, _ in points})
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticks(ticks, [f"{labels:g}" for labels in ticks])
        for axis_format in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
            axis_format(ScalarFormatter())
        panel.legend(fontsize=8)
    return figure
