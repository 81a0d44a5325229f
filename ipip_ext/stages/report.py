"""report: one table and two plots that set every model beside the others."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipip_ext import plots
from ipip_ext.events import Event
from ipip_ext.stages.evaluate import ALIGNED
from ipip_ext.workspace import Context

COLUMNS = (
    "model", "role", "split", "n_frames", "force_mae_meV_per_A", "force_rmse_meV_per_A",
    "energy_mae_meV_per_atom", "md_step_ms", "n_parameters",
)  # fmt: skip
Row = dict[str, Any]


def report(
    ctx: Context,
    *,
    models: Mapping[str, Mapping[str, Any]],
    speed: Mapping[str, Any],
    forces: Mapping[str, Path],
) -> dict[str, Any]:
    """Write compare.csv, compare.txt and the plots, and say each model's final metrics once.

    models: by name, each with role, stage, errors, n_frames, n_parameters, aligned.
    forces: by name, the npz with predicted and reference forces.
    """
    rows = [row for name, model in models.items() for row in _rows(name, model, speed["md_step_ms"][name])]
    with (ctx.folder / "compare.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    text = table(rows, f"{speed['formula']} ({speed['n_atoms']} atoms)", [n for n, m in models.items() if m["aligned"]])
    (ctx.folder / "compare.txt").write_text(text + "\n", encoding="utf-8")
    plots.parity(ctx.folder / "parity.png", {name: dict(np.load(path)) for name, path in forces.items()})
    plots.iterations(ctx.folder / "iterations.png", rows)
    for name, model in models.items():
        ctx.bus.emit(_row_event(name, model, rows))
    return {
        "csv": ctx.folder / "compare.csv",
        "table": ctx.folder / "compare.txt",
        "parity": ctx.folder / "parity.png",
        "iterations": ctx.folder / "iterations.png",
    }


def table(rows: Sequence[Row], cell: str, aligned: Sequence[str]) -> str:
    """Return the comparison as text: a line for each model, a group of columns for each split."""
    splits = list(dict.fromkeys(str(row["split"]) for row in rows))
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    cells = {(row["model"], row["split"]): row for row in rows}
    head = [
        "model",
        *(f"{s} F MAE" for s in splits),
        *(f"{s} E MAE" for s in splits),
        "F RMSE",
        "ms/step",
        "params",
    ]
    lines = [head]
    for name in models:
        first = cells[name, splits[0]]
        lines.append(
            [
                name,
                *(f"{cells[name, s]['force_mae_meV_per_A']:.0f}" for s in splits),
                *(f"{cells[name, s]['energy_mae_meV_per_atom']:.1f}" for s in splits),
                f"{first['force_rmse_meV_per_A']:.0f}",
                f"{first['md_step_ms']:.1f}",
                str(first["n_parameters"] if first["n_parameters"] is not None else "-"),
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    body = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
            for line in lines]  # fmt: skip
    counts = ", ".join(f"{cells[models[0], s]['n_frames']} in {s}" for s in splits)
    notes = [
        f"F in meV/A (over all components), E in meV/atom; frames: {counts}; F RMSE on {splits[0]}.",
        f"ms/step: NVE step of {cell} with the model's own ASE calculator, all in turn in one process, median.",
    ]
    if aligned:
        notes.append(f"{', '.join(aligned)}: {ALIGNED}.")
    return "\n".join([body[0], "-" * len(body[0]), *body[1:], "", *notes])


def read_rows(path: Path) -> list[Row]:
    """Read compare.csv back with its numbers as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    if text == "":
        return None
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def _rows(name: str, model: Mapping[str, Any], md_step_ms: float) -> list[Row]:
    return [
        {
            "model": name,
            "role": model["role"],
            "split": split,
            "n_frames": model["n_frames"][split],
            **{key: round(errors[key], 4) for key in COLUMNS if key in errors},
            "md_step_ms": round(md_step_ms, 4),
            "n_parameters": model["n_parameters"],
        }
        for split, errors in model["errors"].items()
    ]


def _row_event(name: str, model: Mapping[str, Any], rows: Sequence[Row]) -> Event:
    final: dict[str, float] = {}
    for split, errors in model["errors"].items():
        final |= {f"{split}_{key}": value for key, value in errors.items()}
    mine = next(row for row in rows if row["model"] == name)
    final |= {key: float(mine[key]) for key in ("md_step_ms", "n_parameters") if mine[key] is not None}
    return Event("row", name, data={"role": model["role"], "stage": model["stage"], "metrics": final})
