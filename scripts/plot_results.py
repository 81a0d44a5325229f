#!/usr/bin/env python
"""Draw the figures of docs/results.md from its own tables, so that no number stands in two places.

scripts/plot_results.py [--results docs/results.md] [--out docs/figures]
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOCS = Path(__file__).parent.parent / "docs"
SPLITS = ("test", "test_id", "test_ood")
Table = list[list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=DOCS / "results.md")
    parser.add_argument("--out", type=Path, default=DOCS / "figures")
    options = parser.parse_args()
    text = options.results.read_text(encoding="utf-8")
    options.out.mkdir(exist_ok=True)
    learning_curve(text, options.out / "learning_curve.png")
    forgetting(text, options.out / "forgetting.png")
    xtb(text, options.out / "xtb.png")


def tables(text: str, section: str) -> list[Table]:
    """Return the tables of a section, their rows without the head."""
    body = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"(?:^\|.*\n)+", body, re.MULTILINE)
    return [[[c.strip(" *") for c in line.split("|")[1:-1]] for line in block.splitlines()[2:]] for block in blocks]


def numbers(cell: str) -> list[float]:
    """Return what a cell holds for each seed, or for all: of "a, b, c: mean ± sd" the first three."""
    return [float(word) for word in re.findall(r"\d+", cell.split(":", maxsplit=1)[0].split("±", maxsplit=1)[0])]


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def learning_curve(text: str, path: Path) -> None:
    """Error against the number of reference labels: IPIP, from scratch, and CHGNet as it comes."""
    few = tables(text, "How many labels does IPIP save?")[0]
    bought = [row for row in tables(text, "Reference labels")[0] if row[0].isdigit()]
    adapted = next(row for row in tables(text, "Fine-tuning the teacher instead")[0] if row[0] == "IPIP, `adapt`")
    figure, panels = _panels(len(SPLITS))
    for column, (panel, split) in enumerate(zip(panels, SPLITS, strict=True)):
        for index, model in enumerate(("IPIP", "scratch")):
            points = {int(row[0]): mean_sd(numbers(row[2 + column])) for row in few if row[0] and row[1] == model}
            if model == "IPIP":
                points[379 + 40] = mean_sd([float(row[2 + column]) for row in bought])
            _line(
                panel,
                list(points),
                list(points.values()),
                f"C{index}",
                {"IPIP": "IPIP, teacher corrected"}.get(model, model),
            )
        _line(panel, [140], [mean_sd(numbers(adapted[1 + column]))], "C2", "IPIP, teacher fine-tuned")
        panel.axhline(float(few[-1][2 + column]), color="0.5", linestyle="--", label="CHGNet as it comes")
        panel.set(title=split, xscale="log", xlabel="reference labels", ylim=(0, None))
        panel.set_xticks([20, 140, 419], ["20", "140", "419"])
        panel.minorticks_off()
    _finish(figure, panels, path)


def forgetting(text: str, path: Path) -> None:
    """Error of each iteration's student by what was forgotten, short iterations."""
    names = (
        "nothing",
        "readouts",
        "readouts, interactions",
        "the same, once",
        "the same, half kept",
        "all",
        "all, half kept",
    )
    variants: list[dict[str, Sequence[list[float]]]] = []
    first: dict[str, list[float]] = {}
    for row in tables(text, "Forgetting")[0]:
        if row[0]:
            variants.append({})
        begun = first.setdefault(row[1], numbers(row[2])) if row[2] else first[row[1]]
        variants[-1][row[1]] = [begun, numbers(row[3]), numbers(row[4])]
    figure, panels = _panels(len(SPLITS))
    for column, (panel, split) in enumerate(zip(panels, SPLITS, strict=True)):
        for index, (name, seeds) in enumerate(zip(names, variants, strict=True)):
            points = [mean_sd([of_seed[i][column] for of_seed in seeds.values()]) for i in range(3)]
            _line(panel, [i + 0.04 * index for i in range(3)], points, f"C{index}", name)
        panel.set(title=split, xlabel="iteration")
        panel.set_xticks([0.12, 1.12, 2.12], ["1", "2", "3"])
    _finish(figure, panels, path)


def xtb(text: str, path: Path) -> None:
    """Error against labels bought, GFN1-xTB; from scratch on 200 drawn blindly as a band."""
    *ours, scratch = tables(text, "GFN1-xTB as the reference")[1]
    figure, panels = _panels(len(SPLITS))
    for column, (panel, split) in enumerate(zip(panels, SPLITS, strict=True)):
        _line(panel, [int(row[1]) for row in ours], [mean_sd(numbers(row[2 + column])) for row in ours], "C0", "IPIP")
        mean, sd = mean_sd(numbers(scratch[2 + column]))
        panel.axhline(mean, color="C1", label="scratch, 200 random labels")
        panel.axhspan(mean - sd, mean + sd, color="C1", alpha=0.2, linewidth=0)
        panel.set(title=split, xlabel="reference labels", ylim=(0, None))
        panel.set_xticks([20, 30, 40, 50])
    _finish(figure, panels, path)


def _panels(count: int) -> tuple[Figure, list]:
    figure = Figure(figsize=(3.5 * count, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count))


def _line(panel, x: Sequence[float], points: Sequence[tuple[float, float]], colour: str, label: str) -> None:
    means, sds = zip(*points, strict=True)
    panel.errorbar(x, means, yerr=sds, marker="o", markersize=4, capsize=2, color=colour, label=label)


def _finish(figure: Figure, panels: list, path: Path) -> None:
    panels[0].set_ylabel("force MAE (meV/Å)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
