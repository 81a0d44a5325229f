"""report: one table and its plots that set every model beside the others, and where the time went."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipip_ext import plots, timing
from ipip_ext.events import Event
from ipip_ext.stages.calibration import SAID
from ipip_ext.stages.evaluate import ALIGNED
from ipip_ext.stages.stability import SHARE
from ipip_ext.tables import aligned as as_table
from ipip_ext.workspace import Context

COLUMNS = (
    "model", "role", "split", "n_frames", "force_mae_meV_per_A", "force_rmse_meV_per_A",
    "energy_mae_meV_per_atom", "md_step_ms", "n_parameters",
)  # fmt: skip
"""Of every compare.csv; `columns` adds what only some recipes measure."""

Row = dict[str, Any]


def report(
    ctx: Context,
    *,
    models: Mapping[str, Mapping[str, Any]],
    speed: Mapping[str, Any],
    forces: Mapping[str, Path],
    calibration: Mapping[str, Any] | None,
    times: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Write compare.csv, compare.txt, time.csv and the plots, and say each model's final metrics once.

    models: by name, each with role, stage, errors, n_frames, n_parameters, aligned, and stability (shares by metric,
    n_walks, time_ps) or None. forces: by name, the npz with predicted and reference forces.
    A model that lacks `test` knows some elements only; one that lacks `speed["md_step_ms"]` could not be timed.
    calibration: at, valid and test of the committee, see `stages.calibration`. times: see `timing.times`.
    """
    rows = [row for name, model in models.items() for row in _rows(name, model, speed["md_step_ms"].get(name))]
    _write_csv(ctx.folder / "compare.csv", columns(rows), rows)
    _write_csv(ctx.folder / "time.csv", timing.COLUMNS, times)
    parts = [table(rows, models, speed), timing.table(times)]
    files = {}
    if calibration is not None:
        told = {name: json.loads(calibration[name].read_text(encoding="utf-8")) for name in ("valid", "test")}
        parts[1:1] = [_calibration_table(calibration["at"], told["test"])]
        files["calibration"] = ctx.folder / "calibration.png"
        curves = {"valid": told["valid"]["curve"], **{split: found["curve"] for split, found in told["test"].items()}}
        plots.calibration(files["calibration"], curves, told["valid"]["error_per_spread"])
    (ctx.folder / "compare.txt").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    plots.parity(ctx.folder / "parity.png", {name: dict(np.load(path)) for name, path in forces.items()})
    plots.iterations(ctx.folder / "iterations.png", rows)
    for name, model in models.items():
        ctx.bus.emit(_row_event(name, model, rows))
    return {
        "csv": ctx.folder / "compare.csv",
        "table": ctx.folder / "compare.txt",
        "parity": ctx.folder / "parity.png",
        "iterations": ctx.folder / "iterations.png",
        "time": ctx.folder / "time.csv",
        **files,
    }


def columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns of compare.csv: `COLUMNS`, and what besides was measured for some of the models."""
    return list(dict.fromkeys([*COLUMNS, *(key for row in rows for key in row)]))


def table(rows: Sequence[Row], models: Mapping[str, Mapping[str, Any]], speed: Mapping[str, Any]) -> str:
    """Return the comparison as text: a line for each model, a group of columns for each split."""
    splits = list(dict.fromkeys(str(row["split"]) for row in rows))
    shares = [key for key in columns(rows) if key.startswith(SHARE)]
    cells = {(row["model"], row["split"]): row for row in rows}
    head = [
        "model",
        *(f"{s} F MAE" for s in splits),
        *(f"{s} E MAE" for s in splits),
        "F RMSE",
        "ms/step",
        "params",
        *(f"sane{key.removeprefix(SHARE).replace('_', ' ')}" for key in shares),
    ]
    lines = [head]
    for name in models:
        first = next(cells[name, s] for s in splits if (name, s) in cells)
        lines.append(
            [
                name,
                *(_cell(cells.get((name, s), {}).get("force_mae_meV_per_A"), ".0f") for s in splits),
                *(_cell(cells.get((name, s), {}).get("energy_mae_meV_per_atom"), ".1f") for s in splits),
                _cell(cells.get((name, splits[0]), {}).get("force_rmse_meV_per_A"), ".0f"),
                _cell(first["md_step_ms"], ".1f"),
                str(first["n_parameters"] if first["n_parameters"] is not None else "-"),
                *(f"{first[key]:.0%}" if key in first else "-" for key in shares),
            ]
        )
    return "\n".join([as_table(lines, left=1), "", *_notes(rows, splits, models, speed)])


def _cell(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


def _notes(
    rows: Sequence[Row], splits: Sequence[str], models: Mapping[str, Mapping[str, Any]], speed: Mapping[str, Any]
) -> list[str]:  # fmt: skip
    n_frames = {row["split"]: row["n_frames"] for row in rows}
    counts = ", ".join(f"{n_frames[split]} in {split}" for split in splits)
    cell = f"{speed['formula']} ({speed['n_atoms']} atoms)"
    notes = [
        f"F in meV/A (over all components), E in meV/atom; frames: {counts}; F RMSE on {splits[0]}.",
        f"ms/step: NVE step of {cell} with the model's own ASE calculator, all in turn in one process, median.",
    ]
    aligned = [name for name, model in models.items() if model["aligned"]]
    if aligned:
        notes.append(f"{', '.join(aligned)}: {ALIGNED}.")
    for name, model in models.items():
        if "test" not in model["errors"]:
            (split, count), *_ = model["n_frames"].items()
            elements = split.removeprefix("test_").replace("_", " ")
            notes.append(
                f"{name}: knows {elements} alone, so only {split}, {count} of {n_frames['test']} frames,"
                " and MD only where no other element takes part."
            )
    walked = next((model["stability"] for model in models.values() if model["stability"]), None)
    if walked is not None:
        notes.append(
            f"sane: share of {walked['n_walks']} Langevin MD runs of {walked['time_ps']:g} ps, the same for each model,"
            " that the guard never stopped (stability/walks.csv)."
        )
    return notes


def _calibration_table(at: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [[f"expected errors of committee {at}", "atoms", "error/expected", "rank corr.", "within 1x", "within 2x"]]
    for split, told in found.items():
        ratio, correlation, *within = (told[key] for key in SAID)
        shares = [f"{share:.0%}" for share in within]
        lines.append([split, str(told["n_atoms"]), f"{ratio:.2f}", f"{correlation:.2f}", *shares])
    notes = [
        "error/expected: RMS of force components, 1 on validation; above 1 the committee is too sure of itself.",
        "within: share of force components off by less than 1x and 2x the expected error; Gaussian: 68% and 95%.",
    ]
    return "\n".join([as_table(lines, left=1), *notes])


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)


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


def _rows(name: str, model: Mapping[str, Any], md_step_ms: float | None) -> list[Row]:
    return [
        {
            "model": name,
            "role": model["role"],
            "split": split,
            "n_frames": model["n_frames"][split],
            **{key: round(errors[key], 4) for key in COLUMNS if key in errors},
            "md_step_ms": None if md_step_ms is None else round(md_step_ms, 4),
            "n_parameters": model["n_parameters"],
            **_shares(model),
        }
        for split, errors in model["errors"].items()
    ]


def _shares(model: Mapping[str, Any]) -> dict[str, float]:
    """Return the model's shares of sane MD by metric; empty where that was not measured."""
    walked = model["stability"] or {}
    return {key: round(share, 4) for key, share in walked.get("shares", {}).items()}


def _row_event(name: str, model: Mapping[str, Any], rows: Sequence[Row]) -> Event:
    final: dict[str, float] = {}
    for split, errors in model["errors"].items():
        final |= {f"{split}_{key}": value for key, value in errors.items()}
    mine = next(row for row in rows if row["model"] == name)
    measured = ("md_step_ms", "n_parameters", *_shares(model))
    final |= {key: float(mine[key]) for key in measured if mine[key] is not None}
    return Event("row", name, data={"role": model["role"], "stage": model["stage"], "metrics": final})
