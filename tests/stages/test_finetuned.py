"""A foundation model fine-tuned on the task's labels; a small MACE of another make stands in for one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from alloy import write_alloy, write_recipe
from click.testing import CliRunner
from foundation import write_foundation

from ipip_ext.backends.base import FitData, FitHooks, FitJob
from ipip_ext.backends.conformance.task import Interrupted, alloy
from ipip_ext.backends.mace._mace import modules
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.check import preflight
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.errors import CalculatorError, RecipeError, UserError
from ipip_ext.recipe.file import load_recipe
from ipip_ext.recipe.training import Fit
from ipip_ext.run.events import read_events

BASELINE = {
    "kind": "finetuned", "name": "tuned", "mace": "foundation.model",
    "fit": {"epochs": 3, "batch_size": 5, "lr": 0.01, "freeze": ["interactions"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def foundation(tmp_path_factory) -> str:
    return str(write_foundation(tmp_path_factory.mktemp("foundation") / "foundation.model"))


def test_a_foundation_model_is_adopted_as_it_is_and_kept_without_pickle(foundation, tmp_path, monkeypatch):
    backend, frames = MaceBackend(), [alloy(1), alloy(2, repeat=2)]
    expected = backend.foundation(foundation, "cpu").compute(frames, stress=True)
    adopted = backend.adopt(foundation, ["Al", "Cu"])
    backend.save(adopted, tmp_path)
    monkeypatch.setattr(torch, "load", None)
    for model in (adopted, backend.load(tmp_path)):
        for found, wanted in zip(backend.potential(model, "cpu").compute(frames, stress=True), expected, strict=True):
            assert found.energy_eV == pytest.approx(wanted.energy_eV, abs=1e-10)
            assert np.allclose(found.forces_eV_per_A, wanted.forces_eV_per_A, atol=1e-10)
            assert np.allclose(found.stress_eV_per_A3, wanted.stress_eV_per_A3, atol=1e-10)


def test_aligned_and_trained_it_resumes_bitwise(foundation, tmp_path):
    backend, frames = MaceBackend(), [alloy(i) for i in range(8)]
    adopted = backend.adopt(foundation, ["Al", "Cu"])
    aligned = backend.align_energies(adopted, frames, "cpu")
    before, after = (backend.potential(model, "cpu").compute(frames) for model in (adopted, aligned))
    errors = [abs(p.energy_eV - frame.info[fr.ENERGY]) for p, frame in zip(after, frames, strict=True)]
    assert max(errors) < 1 < abs(before[0].energy_eV - frames[0].info[fr.ENERGY])
    assert np.allclose(before[0].forces_eV_per_A, after[0].forces_eV_per_A)

    def fit(folder: Path, hooks: FitHooks):
        settings, data = Fit(epochs=3, batch_size=3, lr=0.01), FitData(frames[:6], frames[6:])
        return backend.fit(aligned, data, settings, FitJob(1, folder, "cpu", hooks)).model

    def stop(name: str, _value: float, epoch: int) -> None:
        if (name, epoch) == ("train_loss", 1):
            raise Interrupted

    (tmp_path / "cut").mkdir()
    (tmp_path / "whole").mkdir()
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", FitHooks(metric=stop))
    resumed, whole = (backend.parameters(fit(tmp_path / name, FitHooks())) for name in ("cut", "whole"))
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)
    started = backend.parameters(aligned)
    assert not any(np.array_equal(started[name], whole[name]) for name in backend.groups(aligned)["readouts"])


def test_what_cannot_be_adopted_is_told(foundation, tmp_path):
    with pytest.raises(CalculatorError, match=r"does not know O, Zr; name a model"):
        MaceBackend().adopt(foundation, ["Cu", "Zr", "O"])
    other = torch.load(foundation, weights_only=False)
    other.__class__ = modules.MACE
    torch.save(other, tmp_path / "other.model")
    with pytest.raises(CalculatorError, match="is a MACE; only ScaleShiftMACE"):
        MaceBackend().adopt(str(tmp_path / "other.model"), ["Cu"])
    other.__class__ = modules.ScaleShiftMACE
    other.radial_embedding.apply_cutoff = False  # no weight tells of it
    torch.save(other, tmp_path / "other.model")
    with pytest.raises(CalculatorError, match="predicts otherwise when it is rebuilt"):
        MaceBackend().adopt(str(tmp_path / "other.model"), ["Cu"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a recipe, its data and foundation model, run to the end."""
    folder = tmp_path_factory.mktemp("finetuned")
    write_alloy(folder)
    write_foundation(folder / "foundation.model")
    scratch = {"kind": "scratch", "fit": {"epochs": 2}}
    write_recipe(folder, folder, iterations=1, baselines=[scratch, BASELINE], tracking={"enabled": False})
    assert run(folder).exit_code == 0
    return folder


def run(folder: Path):
    arguments = ["run", str(folder / "recipe.yaml"), "--workdir", str(folder / "run")]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_it_is_a_row_like_any_other_and_is_not_trained_twice(folder):
    with (folder / "run/compare.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert {"ipip", "scratch", "tuned"} <= set(rows)
    assert [key for key, value in rows["tuned"].items() if not value] == [
        key for key, value in rows["scratch"].items() if not value
    ]
    said = {
        event.name: set(event.data["metrics"])
        for event in read_events(folder / "run/events.jsonl")
        if event.kind == "row"
    }
    assert said["tuned"] == said["scratch"]
    count = len(list(read_events(folder / "run/events.jsonl")))
    assert run(folder).exit_code == 0
    again = list(read_events(folder / "run/events.jsonl"))[count:]
    assert {e.name for e in again if e.stage == "baseline-tuned/tune_foundation"} == {"reused"}


def test_its_frozen_weights_are_the_foundations_and_its_file_decides(folder):
    backend = MaceBackend()
    tuned = backend.load(folder / "run/baseline-tuned/tune_foundation/model")
    old = backend.parameters(backend.adopt(str(folder / "foundation.model"), ["Cu"]))
    new = backend.parameters(tuned)
    moved = {name for name in new if not np.array_equal(new[name], old[name])}
    assert moved
    assert not moved & set(backend.groups(tuned)["interactions"])
    record = json.loads((folder / "run/baseline-tuned/tune_foundation/stage.json").read_text())
    assert record["fingerprint"]["inputs"]["foundation"]["mace"].startswith("sha256:")
    assert record["values"]["backend"] == "mace"


def test_a_mistake_is_told_before_the_run(folder, tmp_path):
    def refused(**changes: object) -> str:
        write_recipe(tmp_path, folder, baselines=[BASELINE | changes])
        with pytest.raises(UserError) as raised:
            preflight.check(load_recipe(tmp_path / "recipe.yaml"))
        assert "baselines.0" in str(raised.value)
        return str(raised.value)

    assert "foundation.model: no such file" in refused()
    write_foundation(tmp_path / "foundation.model")
    assert "Did you mean medium-mpa-0" in refused(mace="medium-mpa0")
    assert "freeze: readout is unknown" in refused(fit={"freeze": ["readout"]})
    write_recipe(tmp_path, folder, baselines=[BASELINE | {"method": "loras"}])
    with pytest.raises(RecipeError, match="method"):
        load_recipe(tmp_path / "recipe.yaml")
