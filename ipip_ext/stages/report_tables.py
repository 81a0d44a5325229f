"""The comparison: a table of all models, and smaller ones of cost, size, properties and calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipip_ext.data.tables import Table
from ipip_ext.measure.property_curves import KEYS
from ipip_ext.report.shown import ShownModel, Speed
from ipip_ext.stages.calibration import SAID
from ipip_ext.stages.evaluate import ALIGNED
from ipip_ext.stages.stability import SHARE, by_temperature

COSTS = ("training_wall_s", "n_pseudo_labels", "n_reference_labels")
"""What a model cost, see `timing.training_costs`."""

Row = dict[str, Any]


def table(
    rows: Sequence[Row], models: Mapping[str, ShownModel], speed: Speed, intervals: str
) -> Table:  # fmt: skip
    """Return the comparison. intervals: what is said of them below."""
    splits = list(dict.fromkeys(str(row["split"]) for row in rows))
    return Table(cells(rows), ["", *_notes(rows, splits, models, speed, intervals)])


def cells(rows: Sequence[Row], by: Sequence[str] = ("model",)) -> list[list[str]]:
    """Return the comparison's head and a line for each model, a group of columns for each split.

    rows: of compare.csv. by: columns whose values together name a model.
    """
    splits = list(dict.fromkeys(str(row["split"]) for row in rows))
    shares = by_temperature({key for row in rows for key in row if key.startswith(SHARE)})
    found: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        found.setdefault(tuple(str(row[key]) for key in by), {})[str(row["split"])] = row
    head = [
        *by,
        *(f"{s} F MAE" for s in splits),
        *(f"{s} E MAE" for s in splits),
        "F 95% interval",
        "F RMSE",
        "ms/step",
        "params",
        *(f"sane{key.removeprefix(SHARE).replace('_', ' ')}" for key in shares),
    ]
    lines = [head]
    for names, mine in found.items():
        first = next(iter(mine.values()))
        whole = mine.get(splits[0], {})
        lines.append(
            [
                *names,
                *(_cell(mine.get(s, {}).get("force_mae_meV_per_A"), ".0f") for s in splits),
                *(_cell(mine.get(s, {}).get("energy_mae_meV_per_atom"), ".1f") for s in splits),
                _interval(whole),
                _cell(whole.get("force_rmse_meV_per_A"), ".0f"),
                _cell(first["md_step_ms"], ".1f"),
                _cell(first["n_parameters"], "d"),
                *(_cell(first.get(key), ".0%") for key in shares),
            ]
        )
    return lines


def _notes(
    rows: Sequence[Row], splits: Sequence[str], models: Mapping[str, ShownModel], speed: Speed, intervals: str
) -> list[str]:  # fmt: skip
    n_frames = {row["split"]: row["n_frames"] for row in rows}
    counts = ", ".join(f"{n_frames[split]} in {split}" for split in splits)
    cell = f"{speed.formula} ({speed.n_atoms} atoms)"
    notes = [
        f"F in meV/A (over all components), E in meV/atom; frames: {counts}; F RMSE on {splits[0]}.",
        intervals,
        f"ms/step: NVE step of {cell} with the model's own ASE calculator, all in turn in one process, median.",
    ]
    aligned = [name for name, model in models.items() if model.aligned]
    if aligned:
        notes.append(f"{', '.join(aligned)}: {ALIGNED}.")
    for name, model in models.items():
        if "test" not in model.n_frames:
            (split, count), *_ = model.n_frames.items()
            elements = split.removeprefix("test_").replace("_", " ")
            notes.append(
                f"{name}: knows {elements} alone, so only {split}, {count} of {n_frames['test']} frames,"
                " and MD only where no other element takes part."
            )
    walked = next((model.stability for model in models.values() if model.stability), None)
    if walked is not None:
        notes.append(
            f"sane: share of {walked.n_walks} Langevin MD runs of {walked.time_ps:g} ps, the same for each model,"
            " that the guard never stopped (stability/walks.csv)."
        )
    return notes


def others(rows: Sequence[Row], speed: Speed, reference: Mapping[str, str]) -> list[Table]:
    """Return the tables of training cost, of speed by size, and of properties where those were measured."""
    first = {row["model"]: row for row in reversed(rows)}
    names = list(dict.fromkeys(row["model"] for row in rows))
    found = []
    if any(COSTS[0] in row for row in rows):
        lines = [["training cost", "wall s", "pseudo-labels", "reference labels"]]
        lines += [[name, *(_cell(first[name].get(key), ".0f") for key in COSTS)] for name in names]
        notes = ["wall s: of all stages that the model goes back to, MD and labelling too; -: it came as it is."]
        notes.append("reference labels: seen in training, validation or a correction of the teacher.")
        found.append(Table(lines, notes))
    sizes = sorted({row["n_atoms"] for row in speed.rows})
    if len(sizes) > 1 or any(row["peak_memory_MiB"] is not None for row in speed.rows):
        found.append(_sizes_table(speed.rows, sizes))
    keys = [key for key in KEYS if any(key in row for row in rows)]
    if keys:
        lines = [["properties", *(_HEADS[key] for key in keys)]]
        lines += [[name, *(_cell(first[name].get(key), _FORMATS.get(key, ".2f")) for key in keys)] for name in names]
        notes = [
            "drift, fluct.: total energy in NVE MD, size of its slope in meV/atom/ns and RMS about it in meV/atom.",
            "RDF, VDOS: share not in common with the reference, 0 to 1; 1 where a walk broke. Reference:"
            f" {reference['walks']}.",
            f"strain: RMS difference of energies under strain from {reference['strain']}, meV/atom.",
        ]
        found.append(Table(lines, notes))
    return found


_HEADS = {
    "nve_drift_meV_per_atom_per_ns": "drift", "nve_fluctuation_meV_per_atom": "fluct.", "nve_sane_share": "sane NVE",
    "rdf_distance": "RDF", "vdos_distance": "VDOS", "strain_rmse_meV_per_atom": "strain",
}  # fmt: skip
_FORMATS = {
    "nve_sane_share": ".0%",
    "nve_drift_meV_per_atom_per_ns": ".3g",
    "rdf_distance": ".3f",
    "vdos_distance": ".3f",
}


def _sizes_table(rows: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> Table:
    timed = {(row["model"], row["n_atoms"]): row for row in rows}
    has_memory = any(row["peak_memory_MiB"] is not None for row in rows)
    lines = [["ms/step by atoms", *map(str, sizes), *(f"MiB {n}" for n in sizes if has_memory)]]
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = [timed[name, n] for n in sizes]
        memory = [_cell(row["peak_memory_MiB"], ".0f") for row in mine if has_memory]
        lines.append([name, *(_cell(row["md_step_ms"], ".1f") for row in mine), *memory])
    notes = ["MiB: peak memory of MD on top of the loaded model."] if has_memory else []
    return Table(lines, notes)


def calibration_table(at: str, found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return what the test frames say of the expected errors of a committee; at: its iteration."""
    lines = [[f"expected errors of committee {at}", "atoms", "error/expected", "rank corr.", "within 1x", "within 2x"]]
    for split, told in found.items():
        ratio, correlation, *within = (told[key] for key in SAID)
        shares = [f"{share:.0%}" for share in within]
        lines.append([split, str(told["n_atoms"]), f"{ratio:.2f}", f"{correlation:.2f}", *shares])
    notes = [
        "error/expected: RMS of force components, 1 on validation; above 1 the committee is too sure of itself.",
        "within: share of force components off by less than 1x and 2x the expected error; Gaussian: 68% and 95%.",
    ]
    return Table(lines, notes)


def home_table(path: Path | None) -> Table:
    """Return how far from home the student is; path: what stage `home` has told, None of a student that can't."""
    head = ["from home", "frames", "outside", "atoms", "F MAE inside", "F MAE outside", "rank corr.", "of atoms"]
    if path is None:
        note = "The student was exported by an older version and can't tell where it is at home (--redo model)."
        return Table([head], [note])
    lines = [head]
    for name, told in json.loads(path.read_text(encoding="utf-8")).items():
        maes = [_cell(told.get(f"force_mae_{where}_meV_per_A"), ".0f") for where in ("inside", "outside")]
        correlations = [_cell(told.get(f"{of}_rank_correlation"), ".2f") for of in ("frames", "atoms")]
        counts = [str(told["n_frames"]), str(told["n_frames_outside"]), f"{told['atoms_outside_share']:.1%}"]
        lines.append([name, *counts, *maes, *correlations])
    notes = [
        "outside: a frame with an atom whose home distance is above 1: in the student's own features it is farther from"
        " all training atoms of its element than those of 99% of the validation frames are.",
        "rank corr.: Spearman's of home distance and force error, over frames: 1 where errors grow with the distance, 0"
        " where that tells nothing. pool: what MD had found for the student's pretraining. F in meV/A.",
    ]
    return Table(lines, notes)


def _interval(row: Mapping[str, Any]) -> str:
    low, high = (row.get(f"force_mae_ci95_{end}_meV_per_A") for end in ("low", "high"))
    return "-" if low is None or high is None else f"{low:.0f}-{high:.0f}"


def _cell(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)
