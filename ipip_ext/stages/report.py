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
from ipip_ext.measure.breakdown import Exam, Scores, take_apart
from ipip_ext.measure.property_curves import KEYS
from ipip_ext.report import plots
from ipip_ext.report.html import run_page
from ipip_ext.report.html.against import against
from ipip_ext.report.html.structures import worst
from ipip_ext.run.events import Event
from ipip_ext.run.workspace import Context
from ipip_ext.stages.evaluate import frame_ids, splits_of
from ipip_ext.stages.report_tables import COSTS, Row, calibration_table, others, table

COLUMNS = (
    "model", "role", "split", "n_frames", "force_mae_meV_per_A", "force_rmse_meV_per_A",
    "energy_mae_meV_per_atom", "md_step_ms", "n_parameters",
    "force_mae_ci95_low_meV_per_A", "force_mae_ci95_high_meV_per_A", "force_p95_meV_per_A", "force_angle_deg",
    "energy_mae_ci95_low_meV_per_atom", "energy_mae_ci95_high_meV_per_atom", "energy_rmse_meV_per_atom",
    "energy_p95_meV_per_atom", "training_wall_s", "n_pseudo_labels", "n_reference_labels",
)  # fmt: skip
"""Of every compare.csv; `columns` adds what only some recipes measure."""


def report(
    ctx: Context,
    *,
    models: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, Path]],
    exam: Mapping[str, Any],
    speed: Mapping[str, Any],
    calibration: Mapping[str, Any] | None,
    times: Sequence[Mapping[str, Any]],
    reference: Mapping[str, str],
    reference_curves: Mapping[str, Path],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Write report.html, compare.csv, .txt and .tex, breakdown, speed and time.csv and the plots; say final metrics.

    models: by name, each with role, stage, n_frames by split, n_parameters, aligned, panel (title of its plot),
    cost (see `timing.training_costs`), properties (see `property_curves`) and curves, their files by kind, and
    stability (shares by metric, n_walks, time_ps, the file of its walks) or None.
    scores: by name, per_frame and forces of its evaluation. exam: test and ood, as
    `stages.evaluate` takes them; partial: ids of the frames of each split that is some model's alone; split_keys and
    seed of the bootstrap. A model that lacks `test` knows some elements only; one that lacks `speed["md_step_ms"]`
    could not be timed. calibration: at, valid and test of the committee, see `stages.calibration`. times: see
    `timing.times`. reference: what properties are compared with, in words; reference_curves: the files.
    about: see `about.about`.
    """
    start_key = (exam["ood"] or {}).get("key", "start")
    asked = Exam(fr.read_frames(exam["test"]), exam["split_keys"], start_key, exam["seed"])
    ids = {name: _splits(asked, exam, models[name], files["per_frame"]) for name, files in scores.items()}
    found = {name: take_apart(asked, *_files(scores[name]), splits) for name, splits in ids.items()}
    rows = [row for name, model in models.items() for row in _rows(name, model, found[name], speed)]
    write_csv(ctx.folder / "compare.csv", rows, columns(rows))
    parts = [{"model": name, **row} for name, scored in found.items() for row in scored.rows]
    write_csv(ctx.folder / "breakdown.csv", parts)
    write_csv(ctx.folder / "speed.csv", speed["rows"])
    write_csv(ctx.folder / "time.csv", times, timing.COLUMNS)
    main = table(rows, models, speed, _said_of_intervals(asked, found))
    more = others(rows, speed, reference)
    pictures, sure = _pictures(ctx.folder, rows, models, scores, calibration)
    texts = [*map(str, (main, *more, *sure)), timing.table(times)]
    (ctx.folder / "compare.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    tex = latex(main.lines, main.left, main.notes)
    (ctx.folder / "compare.tex").write_text(tex + "\n", encoding="utf-8")
    student, *baselines = [name for name in models if _is_shown(models[name])]
    files = {name: _files(scores[name]) for name in (student, *baselines)}
    run_page.write(
        ctx.folder / "report.html",
        run_page.Findings(
            about=about, table=main, others=more, calibration=sure, rows=rows, models=models,
            against=against(
                asked, files[student], {name: files[name] for name in baselines},
                {name: {s: some for s, some in ids[name].items() if s in ids[student]} for name in baselines},
            ),
            unit=asked.unit, breakdown=parts, times=times,
            per_frame={name: per_frame for name, (per_frame, _) in files.items()},
            worst=worst(asked, files), pictures=pictures, reference_curves=reference_curves, start_key=start_key,
        ),
    )  # fmt: skip
    for name, model in models.items():
        ctx.bus.emit(_row_event(name, model, found[name], rows, speed))
    names = {
        "page": "report.html", "csv": "compare.csv", "table": "compare.txt", "latex": "compare.tex",
        "breakdown": "breakdown.csv", "speed": "speed.csv", "time": "time.csv",
    }  # fmt: skip
    return {key: ctx.folder / name for key, name in names.items()} | pictures


def _pictures(
    folder: Path, rows: Sequence[Row], models: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, Path]], calibration: Mapping[str, Any] | None,
) -> tuple[dict[str, Path], list[Table]]:  # fmt: skip
    """Write the plots; return their files, and the table of the committee's calibration where there is one."""
    files = {name: folder / f"{name}.png" for name in ("parity", "iterations")}
    shown = {models[name]["panel"]: _forces(s["forces"]) for name, s in scores.items() if _is_shown(models[name])}
    plots.parity(files["parity"], shown)
    plots.iterations(files["iterations"], rows)
    if calibration is None:
        return files, []
    told = {name: json.loads(calibration[name].read_text(encoding="utf-8")) for name in ("valid", "test")}
    files["calibration"] = folder / "calibration.png"
    curves = {"valid": told["valid"]["curve"], **{split: found["curve"] for split, found in told["test"].items()}}
    plots.calibration(files["calibration"], curves, told["valid"]["error_per_spread"])
    return files, [calibration_table(calibration["at"], told["test"])]


def _splits(
    asked: Exam, exam: Mapping[str, Any], model: Mapping[str, Any], per_frame: Path
) -> dict[str, list[str]]:  # fmt: skip
    """Return the ids of the frames of a model's own splits, and of all of those of others that it has evaluated."""
    ids = frame_ids(per_frame)
    if "test" in model["n_frames"]:
        rows = splits_of(asked.frames, exam["ood"])
        own = {name: [str(asked.frames[i].info[fr.ID]) for i in some] for name, some in rows.items()}
    else:
        own = dict.fromkeys(model["n_frames"], ids)
    more = {name: some for name, some in exam["partial"].items() if name not in own and set(some) <= set(ids)}
    return own | more


def _files(of: Mapping[str, Path]) -> tuple[Path, Path]:
    return of["per_frame"], of["forces"]


def _said_of_intervals(asked: Exam, found: Mapping[str, Scores]) -> str:
    (split, n_units), *_ = next(iter(found.values())).n_units.items()
    return f"F 95% interval: of F MAE on {split}, by a bootstrap over its {n_units} {asked.unit}, alike for all models."


def _forces(path: Path) -> dict[str, Any]:
    data = np.load(path)
    return {key: data[key] for key in ("predicted", "reference")}


def _is_shown(model: Mapping[str, Any]) -> bool:
    return str(model["role"]) != "iteration"


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


def _rows(name: str, model: Mapping[str, Any], scored: Scores, speed: Mapping[str, Any]) -> list[Row]:
    md_step_ms, memory_MiB = speed["md_step_ms"].get(name), speed["peak_memory_MiB"].get(name)
    errors = {s: {k: round(v, 4) for k, v in e.items() if _is_column(k)} for s, e in scored.splits.items()}
    return [
        {
            "model": name,
            "role": model["role"],
            "split": split,
            "n_frames": scored.n_frames[split],
            **some,
            "md_step_ms": None if md_step_ms is None else round(md_step_ms, 4),
            "n_parameters": model["n_parameters"],
            **model["cost"],
            **({} if memory_MiB is None else {"peak_memory_MiB": memory_MiB}),
            **_shares(model),
            **{key: float(f"{model['properties'][key]:.6g}") for key in KEYS if key in model["properties"]},
        }
        for split, some in errors.items()
    ]


def _is_column(key: str) -> bool:
    return key in COLUMNS or key.startswith("stress_")


def _shares(model: Mapping[str, Any]) -> dict[str, float]:
    """Return the model's shares of sane MD by metric; empty where that was not measured."""
    walked = model["stability"] or {}
    return {key: round(share, 4) for key, share in walked.get("shares", {}).items()}


def _row_event(
    name: str, model: Mapping[str, Any], scored: Scores, rows: Sequence[Row], speed: Mapping[str, Any]
) -> Event:  # fmt: skip
    final = {f"{split}_{key}": value for split, errors in scored.splits.items() for key, value in errors.items()}
    mine = next(row for row in rows if row["model"] == name)
    measured = ("md_step_ms", "peak_memory_MiB", "n_parameters", *COSTS, *KEYS, *_shares(model))
    final |= {key: float(mine[key]) for key in measured if mine.get(key) is not None}
    for row in speed["rows"]:
        if row["model"] == name:
            of = {"md_step_ms": row["md_step_ms"], "peak_memory_MiB": row["peak_memory_MiB"]}
            final |= {f"{key}_{row['n_atoms']}_atoms": value for key, value in of.items() if value is not None}
    return Event("row", name, data={"role": model["role"], "stage": model["stage"], "metrics": final})
