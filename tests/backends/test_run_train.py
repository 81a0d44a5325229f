"""A foundation model fine-tuned by MACE's own run_train; each start of it costs seconds, so there are few."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from alloy import cell, label, write_alloy, write_recipe
from click.testing import CliRunner
from foundation import write_foundation

from ipip_ext.backends.base import FitData, FitHooks, FitJob, Tuning
from ipip_ext.backends.conformance.task import Interrupted, alloy
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.backends.mace.run_train.process import RunTrain
from ipip_ext.check import preflight
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.errors import Diverged, RecipeError, StageFailed, UserError
from ipip_ext.recipe.file import load_recipe
from ipip_ext.recipe.training import Fit
from ipip_ext.run.events import read_events

FIT = {"epochs": 2, "batch_size": 4, "lr": 0.01, "warmup_steps": 20, "ema_decay": 0.5}
LORA = {"kind": "finetuned", "name": "lora", "mace": "foundation.model", "method": "lora", "lora_rank": 2, "fit": FIT}
HEADS = {"kind": "finetuned", "name": "heads", "mace": "foundation.model", "method": "multihead", "n_replay": 6} | {
    "fit": FIT
}
SCRATCH = {"kind": "scratch", "fit": {"epochs": 1}}
FROZEN = Tuning("freeze", freeze_to="interactions")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a recipe, its data and foundation model, run to the end."""
    folder = write_alloy(tmp_path_factory.mktemp("run_train"))
    write_foundation(folder / "foundation.model")
    write_recipe(
        folder, folder, iterations=1, baselines=[SCRATCH, LORA, HEADS], tracking={"enabled": False},
        evaluate__speed_supercells=[],
    )  # fmt: skip
    done = CliRunner().invoke(
        main, ["run", str(folder / "recipe.yaml"), "--workdir", str(folder / "run")], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return folder


def test_its_rows_are_like_any_other_and_its_log_is_kept(folder):
    with (folder / "run/compare.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert {"ipip", "scratch", "lora", "heads"} <= set(rows)
    empty = {name: {key for key, value in row.items() if not value} for name, row in rows.items()}
    assert empty["lora"] == empty["heads"] == empty["scratch"]
    for name in ("lora", "heads"):
        stage = folder / f"run/baseline-{name}/tune_natively"
        assert "INFO: Done" in (stage / "run_train.log").read_text()
        assert {path.name for path in stage.iterdir()} == {"model", "run_train.log", "stage.json"}


@pytest.mark.parametrize("name", ["lora", "heads"])
def test_what_is_stored_is_what_mace_has_validated(folder, name):
    record = json.loads((folder / f"run/baseline-{name}/tune_natively/stage.json").read_text())["values"]
    said = {
        event.name: event.value
        for event in read_events(folder / "run/events.jsonl")
        if event.stage == f"baseline-{name}/tune_natively" and event.step == record["best_epoch"]
    }
    for key in ("force_mae_meV_per_A", "energy_mae_meV_per_atom"):
        assert record["valid"][key] == pytest.approx(said[f"valid_{key}"], rel=1e-4)
    assert record["epochs"] == 2
    assert record["valid"]["energy_mae_meV_per_atom"] < 500  # it would be some eV had its zeros been left


def moved(folder: Path, name: str) -> dict[str, np.ndarray]:
    backend = MaceBackend()
    old = backend.parameters(backend.adopt(str(folder / "foundation.model"), ["Cu"]))
    new = backend.parameters(backend.load(folder / f"run/baseline-{name}/tune_natively/model"))
    assert set(old) == set(new)
    return {key: new[key] - old[key] for key in new if not np.array_equal(new[key], old[key])}


def test_lora_moves_weights_by_a_low_rank_and_leaves_the_rest(folder):
    found = moved(folder, "lora")
    assert np.linalg.matrix_rank(found["interactions.0.conv_tp_weights.layer1.weight"], tol=1e-10) == LORA["lora_rank"]
    assert not any("symmetric_contractions" in key for key in found)


def test_of_many_heads_the_tasks_is_kept(folder):
    stage = folder / "run/baseline-heads/tune_natively"
    spec = json.loads((stage / "model/student.json").read_text())
    assert spec["shape"]["heads"] == ["Default"]
    assert len(spec["e0s_eV"]) == 3
    assert "Total number of configurations in pretraining: train=5, valid=1" in (stage / "run_train.log").read_text()
    assert any("symmetric_contractions" in key for key in moved(folder, "heads"))


@pytest.fixture(scope="module")
def foundation(tmp_path_factory) -> str:
    return str(write_foundation(tmp_path_factory.mktemp("foundation") / "foundation.model"))


def training(foundation: str, folder: Path, device: str = "cpu") -> RunTrain:
    model, frames = MaceBackend().adopt(foundation, ["Al"]), [alloy(i) for i in range(4)]
    data, job = FitData(frames[:3], frames[3:]), FitJob(1, folder, device)
    return RunTrain(model, model.spec.e0s_eV, data, Fit(), FROZEN, job, folder / "log")


def tune(foundation: str, folder: Path, hooks: FitHooks, **fit: object):
    backend, frames = MaceBackend(), [alloy(i) for i in range(8)]
    settings = Fit.model_validate({"batch_size": 3, "ema_decay": None} | fit)
    model, data = backend.adopt(foundation, ["Al", "Cu"]), FitData(frames[:6], frames[6:])
    return backend.tune_natively(
        model, data, settings, FROZEN, FitJob(1, folder / "fit", "cpu", hooks), folder / "log"
    )  # fmt: skip


def test_interrupted_it_goes_on_and_stops_when_patience_runs_out(foundation, tmp_path):
    settings, seen = {"epochs": 400, "patience": 2, "lr": 0.3}, []

    def stop(name: str, _value: float, epoch: int) -> None:
        if (name, epoch) == ("valid_loss", 1):
            raise Interrupted

    with pytest.raises(Interrupted):
        tune(foundation, tmp_path, FitHooks(metric=stop), **settings)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in words(p)]
    (tmp_path / "fit/checkpoints/run_train_run-1_epoch-399.pt").write_bytes(b"cut short")
    result = tune(foundation, tmp_path, FitHooks(metric=lambda name, *_: seen.append(name)), **settings)
    log = (tmp_path / "log").read_text()
    assert "Loading checkpoint" in log
    assert result.best_epoch < result.epochs < 400
    assert {"train_loss", "valid_loss", "valid_force_mae_meV_per_A", "valid_energy_mae_meV_per_atom"} == set(seen)
    backend = MaceBackend()
    old, new = (backend.parameters(model) for model in (backend.adopt(foundation, ["Al"]), result.model))
    still = {*backend.groups(result.model)["interactions"], *backend.groups(result.model)["embedding"]}
    assert {name for name in new if np.array_equal(old[name], new[name])} >= still
    assert not any(np.array_equal(old[name], new[name]) for name in backend.groups(result.model)["readouts"])


def words(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.parent.name != str(os.getpid()) else b""
    except OSError:
        return b""


def test_if_it_fails_its_last_words_are_told(foundation, tmp_path):
    with pytest.raises(StageFailed, match=r"ended with exit code 1, having said: .*No CUDA device available") as raised:
        training(foundation, tmp_path, device="cuda:63").run()
    assert str(tmp_path / "log") in str(raised.value)


def test_a_loss_that_is_not_finite_ends_it(foundation, tmp_path):
    going = training(foundation, tmp_path)
    going.results.parent.mkdir()
    going.results.write_text('{"mode": "opt", "loss": 1.0, "epoch": 6}\n{"mode": "opt", "loss": NaN, "epoch": 7}\n')
    with pytest.raises(Diverged, match="training loss of MACE's run_train is not finite in epoch 7"):
        going._listen()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"method": "freeze"}, "lora_rank is for method: lora"),
        ({"method": "multihead"}, "lora_rank is for method: lora"),
        ({"replay": "pool.extxyz"}, "replay is for method: multihead"),
        ({"fit": {"freeze": ["readouts"]}}, "fit.freeze is for method: naive"),
        ({"fit": {"warmup_steps": 3}}, "fit.warmup_steps is for method: naive"),
        ({"method": "qlora"}, "method"),
    ],
)
def test_keys_of_another_method_are_refused(tmp_path, alloy_data, change, told):
    write_recipe(tmp_path, alloy_data, baselines=[LORA | change])
    with pytest.raises(RecipeError, match=rf"baselines\.0.*{told}"):
        load_recipe(tmp_path / "recipe.yaml")


def test_what_is_replayed_is_looked_at_before_the_run(tmp_path, foundation):
    write_alloy(tmp_path)

    def refused(frames: list) -> str:
        fr.write_frames(tmp_path / "pool.extxyz", frames)
        write_recipe(tmp_path, tmp_path, baselines=[HEADS | {"mace": foundation, "replay": "pool.extxyz"}])
        with pytest.raises(UserError) as raised:
            preflight.check(load_recipe(tmp_path / "recipe.yaml"))
        assert "baselines.0" in str(raised.value)
        return str(raised.value)

    held_out, strange = label(cell(100, 0.2)), cell(7)
    strange.symbols[0] = "Zr"
    assert "near duplicates of test frames" in refused([cell(7), held_out])
    assert "does not know Zr" in refused([cell(7), strange])
    assert "holds one structure" in refused([cell(7)])
