"""Figures of a report, as SVG inside an image, where no name in them can be more than text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from ipip_ext.report.html.parts import data_uri
from ipip_ext.report.plots import plain

Line = tuple[Sequence[float], Sequence[float]]
"""x and y."""

_PANEL_IN = (3.5, 3.1)
MARKERS = "osD^vPX<>ph"
"""Of one model after another: colours alone are alike to many."""
_LINES = ("-", "--", "-.", ":")
_MARKERS = {"ipip": "*", "baseline": "o", "iteration": "."}
_COLOURS = {"ipip": "C0", "baseline": "C1"}
_MOST_NAMES = 6
"""Of more models than these a legend has the names: beside the points they would hide each other."""
_ROLES = {"ipip": "student", "baseline": "baseline", "iteration": "iteration of the student"}


@dataclass(frozen=True)
class Point:
    """A model in the plane of speed and error: ms per MD step, meV/Angstrom."""

    label: str
    role: str
    md_step_ms: float
    force_mae_meV_per_A: float


@dataclass(frozen=True)
class Panel:
    """Some lines. reference: names of lines that are drawn black and dashed, above all."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Line]
    marked: bool = False
    reference: Sequence[str] = ()


def svg(figure: Figure) -> str:
    """Return a figure as the address of itself; the same figure gives the same bytes."""
    file = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ipip"}):
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return data_uri(file.getvalue(), "svg+xml")


def png(figure: Figure) -> str:
    """Return a figure of many points as the address of itself."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return data_uri(file.getvalue(), "png")


def grid(n_panels: int, most: int = 3, panel_in: tuple[float, float] = _PANEL_IN) -> tuple[Figure, list[Axes]]:
    """Return a figure of at least one panel, at most `most` beside each other."""
    across = max(1, min(n_panels, most))
    down = -(-max(n_panels, 1) // across)
    figure = Figure(figsize=(panel_in[0] * across, panel_in[1] * down), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(down, across, squeeze=False).ravel())
    for spare in panels[max(n_panels, 1) :]:
        spare.set_axis_off()
    return figure, panels


def pareto(splits: Mapping[str, Sequence[Point]]) -> str:
    """Return error against time of an MD step, a panel for each split; the line joins what nothing else beats."""
    figure, panels = grid(len(splits), panel_in=(4.0, 3.4))
    names = list(dict.fromkeys(p.label for points in splits.values() for p in points if p.role != "iteration"))
    is_crowded = len(names) > _MOST_NAMES
    for panel, (split, points) in zip(panels, splits.items(), strict=False):
        front = sorted(_front(points), key=lambda p: p.md_step_ms)
        x, y = [p.md_step_ms for p in front], [p.force_mae_meV_per_A for p in front]
        panel.plot(x, y, color="0.75", zorder=0, drawstyle="steps-post")
        for p in points:
            index = names.index(p.label) if p.label in names else len(names)
            colour = "0.5" if p.role == "iteration" else f"C{index}" if is_crowded else _COLOURS[p.role]
            own = MARKERS[index % len(MARKERS)] if is_crowded and p.role == "baseline" else _MARKERS[p.role]
            panel.plot(
                p.md_step_ms, p.force_mae_meV_per_A, own, color=colour, linestyle="",
                markersize=12 if p.role == "ipip" else 6, label=plain(p.label) if is_crowded else _ROLES[p.role],
                zorder=1 if p.role == "iteration" else 2,
            )  # fmt: skip
        if not is_crowded:
            _name(panel, [p for p in points if p.role != "iteration"])
        panel.set(title=plain(split), xlabel="MD step (ms)", ylabel="force MAE (meV/Å)", xscale="log")
        panel.margins(x=0.15, y=0.12)
        panel.set_ylim(bottom=0)
        _plain_log(panel)
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, fontsize=8)
    return svg(figure)


def _name(panel: Axes, points: Sequence[Point]) -> None:
    """Write the names beside the points, inside of the panel."""
    times_ms = [p.md_step_ms for p in points]
    middle_ms = (min(times_ms) * max(times_ms)) ** 0.5 if points else 0.0
    for index, p in enumerate(sorted(points, key=lambda p: p.force_mae_meV_per_A)):
        side = -1 if p.md_step_ms > middle_ms else 1
        shift = (8 * side, -4 if index % 2 else 4)  # neighbours would write over each other
        panel.annotate(
            plain(p.label), (p.md_step_ms, p.force_mae_meV_per_A), shift, textcoords="offset points", fontsize=8,
            va="center", ha="right" if side < 0 else "left",
        )  # fmt: skip


def _front(points: Sequence[Point]) -> list[Point]:
    def beats(a: Point, b: Point) -> bool:
        here, there = (a.md_step_ms, a.force_mae_meV_per_A), (b.md_step_ms, b.force_mae_meV_per_A)
        return here != there and here[0] <= there[0] and here[1] <= there[1]

    return [p for p in points if not any(beats(other, p) for other in points)]


def _plain_log(panel: Axes) -> None:
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(ScalarFormatter())
    panel.xaxis.set_minor_formatter(NullFormatter())


def curves(panels: Sequence[Panel]) -> str:
    """Return panels of lines; the same name has the same colour in all."""
    figure, axes = grid(len(panels))
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    for axis, panel in zip(axes, panels, strict=False):
        for name, (x, y) in panel.lines.items():
            index = names.index(name)
            style: dict[str, Any] = {"color": f"C{index}", "linestyle": _LINES[index % len(_LINES)], "linewidth": 1.3}
            if name in panel.reference:
                style = {"color": "black", "linestyle": "--", "linewidth": 1.0, "zorder": 3}
            mark = MARKERS[index % len(MARKERS)] if panel.marked else ""
            axis.plot(x, y, marker=mark, markersize=4, label=plain(name), **style)
        axis.set(title=plain(panel.title), xlabel=panel.x, ylabel=panel.y)
        axis.title.set_fontsize(10)
    axes[0].legend(fontsize=7)
    return svg(figure)


def dots(title: str, models: Mapping[str, Mapping[str, float]], y: str) -> str:
    """Return a mark for each model above each value of a key. models: by name, number by value."""
    values = list(dict.fromkeys(value for some in models.values() for value in some))
    figure, (panel, *_) = grid(1, panel_in=(max(4.5, 1.8 + 0.45 * len(values)), 3.2))
    for index, (name, some) in enumerate(models.items()):
        x = [values.index(value) + 0.12 * (index - (len(models) - 1) / 2) for value in some]
        mark, size = ("*", 9) if index == 0 else (MARKERS[(index - 1) % len(MARKERS)], 5)
        panel.plot(x, list(some.values()), mark, markersize=size, label=plain(name))
    panel.set_xticks(range(len(values)), [plain(value) for value in values], rotation=45 if len(values) > 6 else 0)
    panel.set(ylabel=y, ylim=(0, None), xlim=(-0.6, len(values) - 0.4), title=plain(title))
    panel.legend(fontsize=7)
    return svg(figure)


def energy_parity(models: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """Return predicted against reference energies, eV/atom, a panel for each model."""
    figure, panels = grid(len(models), most=4, panel_in=(3.0, 3.0))
    every = [value for pair in models.values() for values in pair for value in values]
    pad = 0.05 * (max(every) - min(every)) or 1.0
    ends = (min(every) - pad, max(every) + pad)
    for panel, (name, (reference, predicted)) in zip(panels, models.items(), strict=False):
        panel.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
        panel.scatter(reference, predicted, s=12, alpha=0.6, linewidths=0)
        panel.set(title=plain(name), xlim=ends, ylim=ends, xlabel="reference energy (eV/atom)")
        panel.title.set_fontsize(10)
        panel.set_aspect("equal")
    panels[0].set_ylabel("predicted energy (eV/atom)")
    return png(figure)
