"""`evaluate` measures whatever can be meant by a model, on files and on structures in memory, by the same numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from alloy import cell
from ase.calculators.emt import EMT
from click.testing import CliRunner
from strangers import Evil, of_another

from ipip_ext import errors, evaluate, load_calculator, load_potential, open_run
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr

FORCE = "force_mae_meV_per_A"


def test_the_same_numbers_whatever_names_the_model(finished_run):
    run, test = open_run(finished_run / "runs/tiny"), finished_run / "data/test.extxyz"
    said = CliRunner().invoke(main, ["evaluate", str(run.folder), str(test), "--json"], catch_exceptions=False).stdout
    expected = json.loads(said)
    del expected["model"], expected["data"]
    for model in (run, run.folder, str(run.model), load_potential(run.folder)):
        assert evaluate(model, test) == pytest.approx(expected, rel=1e-4), model
    frames = fr.read_frames(test)
    assert evaluate(run, frames, batch_size=2) == pytest.approx(expected, rel=1e-4)
    from_home = {"n_frames_outside", "home_rank_correlation"}  # which a file of MACE's own can't tell
    errors_alone = {key: value for key, value in expected.items() if key not in from_home}
    assert len(expected) == len(errors_alone) + 2
    for model in (run.model / "student.model", load_calculator(run.folder)):
        assert evaluate(model, frames) == pytest.approx(errors_alone, rel=1e-4), model
    assert evaluate(run, frames[0])["n_frames"] == 1
    rows = {(row["model"], row["split"]): row for row in run.rows()}
    assert expected[FORCE] == pytest.approx(rows["ipip", "test"][FORCE], rel=1e-4)


def test_calculators_and_entries_are_one(finished_run):
    test = finished_run / "data/test.extxyz"
    entry = {"python": "ase.calculators.emt:EMT", "kwargs": {"asap_cutoff": True}}
    found = evaluate(entry, test)
    assert found == evaluate(EMT(asap_cutoff=True), str(test))
    assert found[FORCE] < 1e-4  # it made these labels
    assert evaluate("{python: ase.calculators.emt:EMT}", test) == evaluate(EMT(), test)


def test_labels_under_other_names():
    frames = [cell(seed) for seed in range(2)]
    for atoms in frames:
        calculator = EMT()
        calculator.calculate(atoms)
        atoms.info["E"] = calculator.results["energy"] + 0.004
        atoms.arrays["F"] = calculator.results["forces"] + 0.01
    found = evaluate(EMT(), frames, energy_key="E", forces_key="F")
    assert found["n_frames"] == 2
    assert found[FORCE] == pytest.approx(10.0)
    assert found["energy_mae_meV_per_atom"] == pytest.approx(1.0)
    with pytest.raises(errors.DataError, match=r"frames: no frame has REF_energy\. Found: per frame E"):
        evaluate(EMT(), frames)


def test_what_can_not_be_measured_is_refused(finished_run):
    test = fr.read_frames(finished_run / "data/test.extxyz")
    with pytest.raises(errors.DataError, match="holds no structures"):
        evaluate(EMT(), [])
    broken = test[0].copy()
    broken.positions[0] = np.nan
    with pytest.raises(errors.DataError, match=r"frame 1: atom 0 \(Al\): position is not finite"):
        evaluate(EMT(), [test[0], broken])
    with pytest.raises(errors.CalculatorError, match="model: int is none; give a run"):
        evaluate(3, test)
    with pytest.raises(errors.ModelFileError, match="no such file or folder"):
        evaluate("nothing", test)
    with pytest.raises(errors.WorkspaceError, match="cuda:99 is not there"):
        evaluate("chgnet", test, device="cuda:99")


def test_a_model_of_another_user_must_be_trusted(tmp_path, finished_run, monkeypatch, caplog):
    model = tmp_path / "evil.model"
    torch.save(Evil(tmp_path / "ran"), model)
    of_another(monkeypatch)
    test = finished_run / "data/test.extxyz"
    for named in (model, {"mace": str(model)}):
        with pytest.raises(errors.ModelFileError, match="--trust-models"):
            evaluate(named, test)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(errors.UserError):
        evaluate(model, test, trust_models=True)
    assert (tmp_path / "ran").exists()
    assert "unpickles" in caplog.text
