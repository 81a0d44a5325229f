"""report: one table, its plots and a page that set every model beside the others, and where the time went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipip_ext.data import frames as fr
from ipip_ext.data.tables import Table, latex, read_csv, write_csv
from ipip_ext.measure import timing
from ipip_ext.measure.breakdown import Examined, Scores, places, take_apart
from ipip_ext.measure.property_curves import KEYS
from ipip_ext.report import plots
from ipip_ext.report.html import run_page
from ipip_ext.report.html.against import against
from ipip_ext.report.html.structures import worst
from ipip_ext.report.shown import Asked, Scored, Shown, ShownModel, Speed
from ipip_ext.run.events import Event
from ipip_ext.run.stage import Context
from ipip_ext.stages.evaluate import splits_of
from ipip_ext.stages.report_tables import COSTS, Row, calibration_table, home_table, others, table
from ipip_ext.stages.stability import by_temperature

COLUMNS = (
    "model", "role", "split", "n_frames", "force_mae_meV_per_A", "force_rmse_meV_per_A",
    "energy_mae_meV_per_atom", "md_step_ms", "n_parameters",
    "force_mae_ci95_low_meV_per_A", "force_mae_ci95_high_meV_per_A", "force_p95_meV_per_A", "force_angle_deg",
    "energy_mae_ci95_low_meV_per_atom", "energy_mae_ci95_high_meV_per_atom", "energy_rmse_meV_per_atom",
    "energy_p95_meV_per_atom", "training_wall_s", "n_pseudo_labels", "n_reference_labels",
)  # fmt: skip
"""Of every compare.csv; `columns` adds what only some recipes measure."""


def report(ctx: Context, *, shown: Shown) -> dict[str, Any]:
    """Write report.html, compare.csv, .txt and .tex, breakdown, speed and time.csv and the plots; say final metrics."""
    asked = _exam(shown.exam)
    rows_of = _splits(asked, shown)
    found = {name: take_apart(asked, *_files(shown.scores[name]), splits) for name, splits in rows_of.items()}
    rows = [row for name, model in shown.models.items() for row in _rows(name, model, found[name], shown.speed)]
    parts = [{"model": name, **row} for name, scored in found.items() for row in scored.rows]
    _write_numbers(ctx.folder, shown, rows, parts)
    main = table(rows, shown.models, shown.speed, _said_of_intervals(asked, found))
    more = others(rows, shown.speed, shown.reference)
    pictures, sure = _pictures(ctx.folder, rows, shown)
    home = home_table(shown.home)
    _write_texts(ctx.folder, main, [*map(str, [*more, *sure, home]), timing.table(shown.times), *_warnings(shown)])
    student, *baselines = [name for name, model in shown.models.items() if not model.is_iteration]
    files = {name: _files(shown.scores[name]) for name in (student, *baselines)}
    run_page.write(
        ctx.folder / "report.html",
        run_page.Findings(
            shown=shown, table=main, others=more, calibration=sure, home=home, rows=rows,
            against=against(
                asked, files[student], {name: files[name] for name in baselines},
                {name: {s: some for s, some in rows_of[name].items() if s in rows_of[student]} for name in baselines},
            ),
            unit=asked.unit, breakdown=parts, per_frame={name: per_frame for name, (per_frame, _) in files.items()},
            worst=worst(asked, files), pictures=pictures, start_key=asked.start_key,
        ),
    )  # fmt: skip
    for name, model in shown.models.items():
        ctx.bus.emit(_row_event(name, model, found[name], rows, shown.speed))
    return {key: ctx.folder / name for key, name in _FILES.items()} | pictures


_FILES = {
    "page": "report.html", "csv": "compare.csv", "table": "compare.txt", "latex": "compare.tex",
    "breakdown": "breakdown.csv", "speed": "speed.csv", "time": "time.csv",
}  # fmt: skip


def _exam(asked: Asked) -> Examined:
    start_key = "start" if asked.ood is None else asked.ood.key
    return Examined(fr.read_frames(asked.test), asked.split_keys, start_key, asked.seed)


def _write_numbers(folder: Path, shown: Shown, rows: Sequence[Row], parts: Sequence[Row]) -> None:
    write_csv(folder / _FILES["csv"], rows, columns(rows))
    write_csv(folder / _FILES["breakdown"], parts)
    write_csv(folder / _FILES["speed"], shown.speed.rows)
    write_csv(folder / _FILES["time"], shown.times, timing.COLUMNS)


def _warnings(shown: Shown) -> list[str]:
    said = shown.about.get("warnings", [])
    return ["\n".join(f"warning: {line}" for line in said)] if said else []


def _write_texts(folder: Path, main: Table, more: Sequence[str]) -> None:
    (folder / _FILES["table"]).write_text("\n\n".join([str(main), *more]) + "\n", encoding="utf-8")
    tex = latex(main.lines, main.left, main.notes)
    (folder / _FILES["latex"]).write_text(tex + "\n", encoding="utf-8")


def _pictures(folder: Path, rows: Sequence[Row], shown: Shown) -> tuple[dict[str, Path], list[Table]]:
    """Write the plots; return their files, and the table of the committee's calibration where there is one."""
    files = {name: folder / f"{name}.png" for name in ("parity", "iterations")}
    panels = {name: model.panel for name, model in shown.models.items() if not model.is_iteration}
    plots.parity(files["parity"], {panel: _forces(shown.scores[name].forces) for name, panel in panels.items()})
    plots.iterations(files["iterations"], rows)
    if shown.calibration is None:
        return files, []
    valid, test = (json.loads(p.read_text(encoding="utf-8")) for p in (shown.calibration.valid, shown.calibration.test))
    files["calibration"] = folder / "calibration.png"
    curves = {"valid": valid["curve"], **{split: found["curve"] for split, found in test.items()}}
    plots.calibration(files["calibration"], curves, valid["error_per_spread"])
    return files, [calibration_table(shown.calibration.at, test)]


def _splits(asked: Examined, shown: Shown) -> dict[str, dict[str, Sequence[int]]]:
    """Return by model the places of the frames of its own splits, and of all of those of others that it has evaluated.

    A name decides nothing: several frames of an older run may have the same.
    """
    held = {
        name: places(asked.frames, scored.per_frame, read_csv(scored.per_frame))
        for name, scored in shown.scores.items()
    }
    whole = splits_of(asked.frames, shown.exam)
    partial: dict[str, Sequence[int]] = {}
    found: dict[str, dict[str, Sequence[int]]] = {}
    for name, model in shown.models.items():
        partial |= {split: held[name] for split in model.n_frames if split in shown.exam.partial}
    for name, model in shown.models.items():
        own: dict[str, Sequence[int]] = dict.fromkeys(model.n_frames, held[name])
        if "test" in model.n_frames:
            own = dict(whole)
        found[name] = own | {s: some for s, some in partial.items() if s not in own and set(some) <= set(held[name])}
    return found


def _files(of: Scored) -> tuple[Path, Path]:
    return of.per_frame, of.forces


def _said_of_intervals(asked: Examined, found: Mapping[str, Scores]) -> str:
    (split, n_units), *_ = next(iter(found.values())).n_units.items()
    return f"F 95% interval: of F MAE on {split}, by a bootstrap over its {n_units} {asked.unit}, alike for all models."


def _forces(path: Path) -> dict[str, Any]:
    data = np.load(path)
    return {key: data[key] for key in ("predicted", "reference")}


def columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns of compare.csv: `COLUMNS`, and what besides was measured for some of the models."""
    return list(dict.fromkeys([*COLUMNS, *(key for row in rows for key in row)]))


def read_rows(path: Path) -> list[Row]:
    """Read compare.csv back with its numbers as numbers."""
    return [{key: _number(value) for key, value in row.items()} for row in read_csv(path)]


def _number(text: str) -> Any:
    if text == "":
        return None
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def _rows(name: str, model: ShownModel, scored: Scores, speed: Speed) -> list[Row]:
    md_step_ms, memory_MiB = speed.md_step_ms.get(name), speed.peak_memory_MiB.get(name)
    errors = {s: {k: round(v, 4) for k, v in e.items() if _is_column(k)} for s, e in scored.splits.items()}
    return [
        {
            "model": name,
            "role": model.role,
            "split": split,
            "n_frames": scored.n_frames[split],
            **some,
            "md_step_ms": None if md_step_ms is None else round(md_step_ms, 4),
            "n_parameters": model.n_parameters,
            **model.cost,
            **({} if memory_MiB is None else {"peak_memory_MiB": memory_MiB}),
            **_shares(model),
            **{key: float(f"{model.properties[key]:.6g}") for key in KEYS if key in model.properties},
        }
        for split, some in errors.items()
    ]


def _is_column(key: str) -> bool:
    return key in COLUMNS or key.startswith("stress_")


def _shares(model: ShownModel) -> dict[str, float]:
    """Return the model's shares of sane MD by metric; empty where that was not measured."""
    shares = {} if model.stability is None else model.stability.shares
    return {key: round(shares[key], 4) for key in by_temperature(shares)}


def _row_event(
    name: str, model: ShownModel, scored: Scores, rows: Sequence[Row], speed: Speed
) -> Event:  # fmt: skip
    final = {f"{split}_{key}": value for split, errors in scored.splits.items() for key, value in errors.items()}
    mine = next(row for row in rows if row["model"] == name)
    measured = ("md_step_ms", "peak_memory_MiB", "n_parameters", *COSTS, *KEYS, *_shares(model))
    final |= {key: float(mine[key]) for key in measured if mine.get(key) is not None}
    for row in speed.rows:
        if row["model"] == name:
            of = {"md_step_ms": row["md_step_ms"], "peak_memory_MiB": row["peak_memory_MiB"]}
            final |= {f"{key}_{row['n_atoms']}_atoms": value for key, value in of.items() if value is not None}
    return Event("row", name, data={"role": model.role, "stage": model.stage, "metrics": final})
