"""A finished run, as its user meets it: the table, the files, the MLflow store."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from ipip_ext import load_calculator
from ipip_ext.data import frames as fr
from ipip_ext.run.events import read_events
from ipip_ext.stages.report import COLUMNS

MODELS = {
    "ipip": "ipip", "teacher (python:EMT)": "baseline", "scratch": "baseline",
    "iteration-0": "iteration", "iteration-1": "iteration",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(finished_run) -> Path:
    return finished_run / "runs" / "tiny"


@pytest.fixture(scope="module")
def rows(run) -> list[dict[str, str]]:
    with (run / "compare.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_table_has_every_model_on_every_split(rows):
    assert tuple(rows[0]) == COLUMNS
    assert {row["model"]: row["role"] for row in rows} == MODELS
    for model in MODELS:
        counts = {row["split"]: int(row["n_frames"]) for row in rows if row["model"] == model}
        assert counts == {"test": 6, "test_id": 4, "test_ood": 2}
    for row in rows:
        numbers = [float(row[key]) for key in COLUMNS[4:8]]
        assert all(np.isfinite(numbers))
        assert all(value > 0 for value in numbers)


def test_the_ipip_row_is_the_iteration_with_the_lowest_validation_error(run, rows):
    valid = [
        json.loads((run / f"iter-0{i}/finetune/stage.json").read_text())["values"]["valid"]["force_mae_meV_per_A"]
        for i in (0, 1)
    ]
    best = f"iteration-{int(np.argmin(valid))}"
    errors = {row["model"]: row["force_mae_meV_per_A"] for row in rows if row["split"] == "test"}
    assert errors["ipip"] == errors[best]


def test_the_ipip_row_is_what_one_computes_by_hand(run, rows):
    calculator = load_calculator(run)
    forces, energies = [], []
    for atoms in ase.io.read(run / "prepare" / "test.extxyz", ":"):
        label_energy, label_forces = atoms.info["REF_energy"], atoms.arrays["REF_forces"]
        atoms.calc = calculator
        forces.append((atoms.get_forces() - label_forces).ravel())
        energies.append(abs(atoms.get_potential_energy() - label_energy) / len(atoms))
    row = next(row for row in rows if row["model"] == "ipip" and row["split"] == "test")
    error = np.concatenate(forces)
    assert float(row["force_mae_meV_per_A"]) == pytest.approx(np.abs(error).mean() * 1e3, rel=1e-4)
    assert float(row["force_rmse_meV_per_A"]) == pytest.approx(np.sqrt((error**2).mean()) * 1e3, rel=1e-4)
    assert float(row["energy_mae_meV_per_atom"]) == pytest.approx(np.mean(energies) * 1e3, rel=1e-3)


def test_no_test_frame_reached_training_or_the_pool(run):
    test = {atoms.positions.tobytes() for atoms in fr.read_frames(run / "prepare/test.extxyz")}
    for name in ("prepare/train", "prepare/valid", "explore/frames", "iter-00/label/pool"):
        frames = fr.read_frames(run / f"{name}.extxyz")
        assert frames
        assert not test & {atoms.positions.tobytes() for atoms in frames}


def test_every_pool_frame_says_who_labelled_it(run):
    pool = fr.read_frames(run / "iter-00/label/pool.extxyz")
    assert {frame.info[fr.SOURCE] for frame in pool} == {"teacher:python:EMT"}
    assert len({frame.info[fr.ID] for frame in pool}) == len(pool)
    assert {frame.info[fr.ID][:4] for frame in pool} == {"it00", "it01"}


def test_forgetting_reset_its_groups_and_kept_the_rest(run):
    from ipip_ext.backends import registry

    backend = registry.backend("mace")
    before, after = (backend.load(run / f"iter-00/{stage}/model") for stage in ("finetune", "forget"))
    groups = backend.groups(before)
    forgotten = set(groups["readouts"])
    old, new = backend.parameters(before), backend.parameters(after)
    assert all(np.array_equal(old[name], new[name]) == (name not in forgotten) for name in old)


def test_plots_and_log_are_there(run):
    for name in ("parity.png", "iterations.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    log = (run / "log.txt").read_text()
    assert "iter-01/finetune: valid_force_mae_meV_per_A [3]" in log
    assert "run finished" in log


def test_the_mlflow_store_has_one_parent_its_children_and_one_run_a_baseline(finished_run, run):
    client = MlflowClient(tracking_uri=f"sqlite:///{finished_run / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "ipip-mace"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if r.data.tags["role"] == "ipip"]
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 1 + len(children)
    assert sorted(r.data.tags["role"] for r in children) == ["baseline", "baseline", "iteration", "iteration"]
    final = {f"{split}_{key}" for split in ("test", "test_id", "test_ood")
             for key in ("force_mae_meV_per_A", "energy_mae_meV_per_atom")}  # fmt: skip
    for one in (parent, *children):
        first = {key for key in one.data.metrics if not key.startswith("work.")}
        assert first - {"training_wall_s"} == final | {"md_step_ms"}, one.info.run_name
        assert "work.detail.test_force_rmse_meV_per_A" in one.data.metrics
        assert one.info.status == "FINISHED"
    assert parent.data.params["student.hidden_irreps"] == "4x0e+4x1o"
    assert any(key.startswith("data_sha256") for key in parent.data.params)
    assert any(key.startswith("versions.") for key in parent.data.params)
    iteration = next(r for r in children if r.info.run_name == "iteration 0")
    history = client.get_metric_history(iteration.info.run_id, "work.finetune.valid_force_mae_meV_per_A")
    assert [point.step for point in history] == [0, 1, 2, 3]
    artifacts = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"recipe.yaml", "compare.csv", "time.csv", "parity.png", "iterations.png", "model"} <= artifacts


def test_events_tell_each_finished_stage_once(run):
    finished = [event.stage for event in read_events(run / "events.jsonl") if event.name == "finished" and event.stage]
    folders = {str(path.parent.relative_to(run)) for path in run.rglob("stage.json")}
    assert sorted(finished) == sorted(folders)
