"""What a run does with a correction of its teacher."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from alloy import refused, write_recipe
from ase import Atoms
from click.testing import CliRunner
from corrections import TEACHER, correction, references, strained_alloy

from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe.labels import Correction
from ipip_ext.run.events import EventBus
from ipip_ext.run.stage import Context
from ipip_ext.stages.inputs import Labellers, Student
from ipip_ext.stages.label import Labeller
from ipip_ext.teachers.correction.fit import fit
from ipip_ext.teachers.correction.fitted import TeacherCorrection


@pytest.mark.parametrize("form", [None, "scale"])
def test_cross_labels_ask_for_the_error_of_the_corrected_teacher(tmp_path, form):
    frames = references(correction("pair"), [strained_alloy(i) for i in range(3)])
    fr.write_frames(tmp_path / "valid.extxyz", frames)
    by = None if form is None else tmp_path / "correction.json"
    if by is not None:
        correction("scale").write(by)
    share = 0.0 if form is None else correction("scale").coefficients["scale"][0]
    context = Context(tmp_path, "iter-00/label", 0, "cpu", EventBus([]))
    entry = {"python": "ase.calculators.emt:EMT"}
    labellers = Labellers(Student("mace", tmp_path), entry, None, tmp_path / "valid.extxyz", by)
    labeller = Labeller(context, labellers)
    said = np.array([told.forces_eV_per_A for told in TEACHER.compute(frames)])
    error = (1 + share) * said - np.array([frame.arrays[fr.FORCES] for frame in frames])
    assert labeller._teacher_error() == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)


def test_the_recipe_is_checked_before_anything_runs(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data)
    said = refused("run", "recipe.yaml", "--set", "correct.form=paar")
    assert "correct.form" in said
    assert "'pair'" in said
    assert "not 'paar'" in said
    said = refused("run", "recipe.yaml", "--set", "correct.form=pair", "--set", "correct.group_keys=[strt]")
    assert "recipe.yaml: correct.group_keys" in said
    assert "no strt" in said
    assert not Path("runs").exists()


@pytest.fixture(scope="module")
def corrected_run(tmp_path_factory, alloy_data) -> Path:
    """A tiny run whose teacher lacks a factor and a pair potential, and is corrected by them."""
    folder = tmp_path_factory.mktemp("corrected")
    shutil.copytree(alloy_data, folder / "data")
    for name in ("train.extxyz", "test.extxyz"):
        fr.write_frames(folder / "data" / name, references(correction("pair"), fr.read_frames(alloy_data / name)))
    write_recipe(folder, Path("data"), tracking__enabled=False, correct={"form": "pair", "n_basis": 6})
    with contextlib.chdir(folder):
        done = CliRunner().invoke(main, ["run", "recipe.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder


def by_hand(run: Path, frames: list[Atoms]) -> list[Prediction]:
    return TeacherCorrection.read(run / "correct/correction.json").apply(frames, TEACHER.compute(frames))


@pytest.mark.slow
def test_a_run_corrects_all_that_its_teacher_labels(corrected_run):
    run = corrected_run / "runs/tiny"
    train = fr.read_frames(run / "prepare/train.extxyz")
    wanted = Correction(form="pair", n_basis=6)
    fresh, _ = fit(train, TEACHER.compute(train), wanted, fr.elements(train))
    stored = TeacherCorrection.read(run / "correct/correction.json")
    for block, values in fresh.coefficients.items():
        assert np.allclose(stored.coefficients[block], values, atol=1e-6)
    before, after = (fr.read_frames(run / name) for name in ("explore/frames.extxyz", "correct/pool.extxyz"))
    assert [f.info[fr.ID] for f in before] == [f.info[fr.ID] for f in after]
    assert not np.allclose(before[0].arrays[fr.FORCES], after[0].arrays[fr.FORCES], atol=1e-4)
    later = fr.read_frames(run / "iter-00/label/pool.extxyz")
    assert {f.info[fr.ID][:4] for f in later} == {"it00", "it01"}
    for frame, told in zip([*after, *later], by_hand(run, [*after, *later]), strict=True):
        assert frame.info[fr.SOURCE] == "teacher:python:EMT+pair"
        assert np.allclose(frame.arrays[fr.FORCES], told.forces_eV_per_A, atol=1e-5)
        assert frame.info[fr.ENERGY] == pytest.approx(told.energy_eV, abs=1e-5)


@pytest.mark.slow
def test_labels_bought_in_the_loop_mend_the_teacher_further(corrected_run):
    """With `relabel`, what is kept of the pool is labelled by the teacher as now corrected."""
    reference = "{python: 'ase.calculators.emt:EMT', kwargs: {asap_cutoff: true}}"
    with contextlib.chdir(corrected_run):
        sets = [f"label.reference={{calculator: {reference}, budget: 3}}", "label.relabel=true", "committee.size=2",
                "baselines=[{kind: teacher}]"]  # fmt: skip
        arguments = ["run", "recipe.yaml", "--workdir", "runs/bought", *(p for one in sets for p in ("--set", one))]
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    run = corrected_run / "runs/bought"
    train = fr.read_frames(run / "iter-00/ask/train.extxyz")
    assert len(train) == len(fr.read_frames(run / "prepare/train.extxyz")) + 3
    anew, _ = fit(train, TEACHER.compute(train), Correction(form="pair", n_basis=6), fr.elements(train))
    stored = TeacherCorrection.read(run / "iter-00/correct/correction.json")
    first = TeacherCorrection.read(run / "correct/correction.json")
    for block, values in anew.coefficients.items():
        assert np.allclose(stored.coefficients[block], values, atol=1e-6)
        assert not np.allclose(first.coefficients[block], values, atol=1e-4)
    pool = fr.read_frames(run / "iter-00/label/pool.extxyz")
    assert {frame.info[fr.ID][:4] for frame in pool} == {"it00", "it01"}
    for frame, told in zip(pool, stored.apply(pool, TEACHER.compute(pool)), strict=True):
        assert np.allclose(frame.arrays[fr.FORCES], told.forces_eV_per_A, atol=1e-5)


@pytest.mark.slow
def test_a_run_says_what_the_correction_is_worth(corrected_run):
    run = corrected_run / "runs/tiny"
    record = json.loads((run / "correct/stage.json").read_text())["values"]
    assert record["form"] == "pair"
    errors = record["cv_force_mae_meV_per_A"]
    assert set(errors) == {"none", "pair"}
    assert errors["pair"] < 0.5 * errors["none"]
    log = (run / "log.txt").read_text()
    assert f"error falls from {errors['none']:.0f} to {errors['pair']:.0f} meV/A" in log
    told = json.loads((run / "correct/correction.json").read_text())["cross_validation"]
    assert {trial["form"]: trial["force_mae_meV_per_A"] for trial in told} == errors
    table = (run / "compare.txt").read_text()
    assert "teacher (python:EMT)" in table  # the baseline stays the teacher as it comes


@pytest.mark.slow
def test_a_corrected_run_is_reused_and_refuses_another_correction(corrected_run):
    with contextlib.chdir(corrected_run):
        before = {p: p.stat().st_mtime_ns for p in Path("runs/tiny").rglob("stage.json")}
        done = CliRunner().invoke(main, ["run", "recipe.yaml"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert {p: p.stat().st_mtime_ns for p in Path("runs/tiny").rglob("stage.json")} == before
        said = refused("run", "recipe.yaml", "--set", "correct.form=scale")
        assert "correct.form is 'pair' there and 'scale' here" in said
        assert "--redo correct" in said
        assert "--redo correct" in refused("run", "recipe.yaml", "--set", "correct.form=scale", "--redo", "pretrain")
        said = refused("run", "recipe.yaml", "--set", "correct.form=none")
        assert "--redo pretrain" in said
