"""Corrections of the teacher: what they are made of, what a fit finds, what a run does with them."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alloy import refused, write_recipe
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from click.testing import CliRunner

from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Prediction
from ipip_ext.potentials.compute import compute_each
from ipip_ext.recipe.labels import Correction
from ipip_ext.run.events import EventBus
from ipip_ext.run.stage import Context
from ipip_ext.stages.label import Labeller
from ipip_ext.teachers.ase_potential import AsePotential
from ipip_ext.teachers.correction.columns import angular, pair, radial
from ipip_ext.teachers.correction.fit import Trial, _Ridge, choose, fit, groups
from ipip_ext.teachers.correction.fitted import FORMS, Basis, Reach, TeacherCorrection
from ipip_ext.teachers.correction.potential import CorrectedPotential

TEACHER = AsePotential(EMT(), "emt")


def alloy(seed: int, n_al: int = 1) -> Atoms:
    """Four rattled atoms of copper and aluminium, strained so that no two frames are one crystal."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
    atoms.symbols[:n_al] = "Al"
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.05, 0.05, (3, 3))), scale_atoms=True)
    atoms.rattle(0.15, rng=rng)
    return atoms


def alloys() -> list[Atoms]:
    return [alloy(10 * seed + n_al, n_al) for seed in range(8) for n_al in range(4)]


class Counting(EMT):
    """EMT that counts its calls."""

    calls = 0

    def calculate(self, *args: object, **kwargs: object) -> None:
        self.calls += 1
        super().calculate(*args, **kwargs)


def basis(**changes: object) -> Basis:
    return Basis(**{"elements": ("Al", "Cu"), "zeros_eV": (0.0, 0.0), "r_max_A": 4.0, "n_basis": 4, "max_ell": 3,
                    **changes})  # fmt: skip


def correction(form: str, seed: int = 0, **changes: object) -> TeacherCorrection:
    """A correction of some size with random coefficients."""
    rng, told = np.random.default_rng(seed), Prediction(0.0, np.zeros((4, 3)))
    n_columns = {block: len(basis(**changes).columns(block, alloy(0), told).energy_eV) for block in FORMS[form]}
    return TeacherCorrection(form, basis(**changes), {b: rng.normal(0, 0.1, n) for b, n in n_columns.items()})


def references(by: TeacherCorrection, frames: list[Atoms]) -> list[Atoms]:
    """Frames whose reference labels are those of EMT, corrected."""
    truth = by.apply(frames, TEACHER.compute(frames))
    return [fr.labelled(frame, told, "reference") for frame, told in zip(frames, truth, strict=True)]


def fitted(frames: list[Atoms], **settings: object) -> tuple[TeacherCorrection, list[Trial]]:
    wanted = Correction(**{"r_max_A": 4.0, "n_basis": 4, "max_ell": 3, "damping": None, **settings})
    return fit(frames, TEACHER.compute(frames), wanted, fr.elements(frames))


MOLECULE = Atoms("CuAlCu", positions=[[0, 0, 0], [2.2, 0.1, 0], [0.3, 1.9, 0.2]])
NARROW = Atoms("CuAl", positions=[[0, 0, 0], [1.3, 0.9, 1.1]], cell=[2.6, 2.7, 2.9], pbc=True)
"""Narrower than the cut-off, so that atoms are neighbours of their own images."""


@pytest.mark.parametrize("atoms", [alloy(1), MOLECULE, NARROW], ids=["crystal", "molecule", "narrow"])
@pytest.mark.parametrize("form", ["scale", "composition", "pair", "angular"])
def test_corrected_forces_are_those_of_the_corrected_energy(form, atoms):
    corrected = CorrectedPotential(TEACHER, correction(form))
    (here,) = corrected.compute([atoms])
    step = 1e-4
    for atom, axis in itertools.product(range(len(atoms)), range(3)):
        moved = [atoms.copy(), atoms.copy()]
        for sign, copy in zip((1, -1), moved, strict=True):
            copy.positions[atom, axis] += sign * step
        up, down = (told.energy_eV for told in corrected.compute(moved))
        assert here.forces_eV_per_A[atom, axis] == pytest.approx(-(up - down) / (2 * step), abs=1e-5)
    assert np.allclose(here.forces_eV_per_A.sum(axis=0), 0, atol=1e-9)
    assert not np.allclose(here.forces_eV_per_A, TEACHER.compute([atoms])[0].forces_eV_per_A, atol=1e-3)


def test_a_frame_that_the_teacher_fails_on_costs_itself_alone():
    frames, emt = alloys()[:4], Counting()
    frames[1].symbols[:] = "Mo"  # unknown to EMT
    corrected = CorrectedPotential(AsePotential(emt, "emt"), correction("pair"))
    found, why = compute_each(corrected, frames)
    assert list(why) == [1]
    assert "Mo" in why[1]
    assert np.isnan(found[1].energy_eV)
    assert emt.calls == len(frames)
    for index in (0, 2, 3):
        (alone,) = corrected.compute([frames[index]])
        assert found[index].energy_eV == alone.energy_eV
        np.testing.assert_array_equal(found[index].forces_eV_per_A, alone.forces_eV_per_A)


@pytest.mark.parametrize("columns", [lambda a: pair(a, ("Al", "Cu"), 5.0, 6), lambda a: angular(a, 5.0, 3, 4)])
def test_a_supercell_is_its_cell_many_times(columns):
    one, many = columns(NARROW), columns(NARROW.repeat((2, 1, 2)))
    assert np.allclose(many.energy_eV, 4 * one.energy_eV)
    assert np.allclose(many.forces_eV_per_A, np.tile(one.forces_eV_per_A, (1, 4, 1)))
    assert np.abs(one.forces_eV_per_A).max() > 0.1


def test_columns_are_what_one_writes_down_by_hand():
    """A right angle: atoms at 2.0 and 2.5 Angstrom from the one in the corner."""
    corner = Atoms("CuAlAl", positions=[[0, 0, 0], [2.0, 0, 0], [0, 2.5, 0]])
    by_hand = lambda r: np.exp(-(((r - 1.0) / 3.0) ** 2) / 2) * (1 + np.cos(np.pi * r / 4.0)) / 2  # noqa: E731
    far = np.hypot(2.0, 2.5)
    assert pair(corner, ("Al", "Cu"), 4.0, 1).energy_eV == pytest.approx(
        [by_hand(far), by_hand(2.0) + by_hand(2.5), 0.0]  # Al-Al, Al-Cu, Cu-Cu
    )
    a, b, c = by_hand(2.0), by_hand(2.5), by_hand(far)
    cosines = ((a, b, 0.0), (a, c, 2.0 / far), (b, c, 2.5 / far))  # at the corner and at its two neighbours
    squares = 2 * (a**2 + b**2 + c**2)  # each neighbour with itself, at angle zero
    wanted = [sum(2 * x * y * cos**ell for x, y, cos in cosines) + squares for ell in (0, 1)]
    assert angular(corner, 4.0, 1, 1).energy_eV == pytest.approx(wanted)


def test_radial_functions_and_their_slopes_end_smoothly():
    r = np.linspace(0.5, 5.5, 5001)
    value, slope = radial(r, 5.0, 8)
    assert np.allclose(np.gradient(value, r, axis=0)[1:-1], slope[1:-1], atol=1e-4)
    assert np.abs(value[np.isclose(r, 5.0)]).max() < 1e-12
    assert np.abs(slope[np.isclose(r, 5.0)]).max() < 1e-12


def test_apply_does_what_its_coefficients_say():
    frame, told = MOLECULE, Prediction(-3.0, np.arange(9.0).reshape(3, 3), np.eye(3))
    zeros = basis(zeros_eV=(-1.0, -0.5))  # of Al and Cu: -2 eV in all, so the teacher stands 1 eV below
    scale, composition, element = (
        TeacherCorrection(form, zeros, {form: np.array(values)}).apply([frame], [told])[0]
        for form, values in (("scale", [0.5]), ("composition", [0.3, 0.6]), ("element", [0.3, 0.6]))
    )
    assert scale.energy_eV == pytest.approx(-3.5)
    assert np.allclose(scale.forces_eV_per_A, 1.5 * told.forces_eV_per_A)
    assert scale.stress_eV_per_A3 is None
    assert composition.energy_eV == pytest.approx(-3.5)  # 0.3 / 3 + 0.6 * 2 / 3 is 0.5 too
    assert np.allclose(composition.forces_eV_per_A, 1.5 * told.forces_eV_per_A)
    assert element.energy_eV == -3.0
    assert np.allclose(element.forces_eV_per_A, told.forces_eV_per_A * np.array([[1.6], [1.3], [1.6]]))


@pytest.mark.parametrize("form", ["scale", "composition", "element", "pair", "angular"])
def test_a_fit_finds_the_truth_where_the_form_holds_it(form):
    truth = correction(form, seed=1)
    train, unseen = references(truth, alloys()), references(truth, [alloy(500 + i, 2) for i in range(3)])
    found, trials = fitted(train, form=form, ridge=1e-9)
    assert [trial.form for trial in trials] == ["none", form]
    assert trials[1].force_mae_meV_per_A < 1 < trials[0].force_mae_meV_per_A
    for frame, told in zip(unseen, found.apply(unseen, TEACHER.compute(unseen)), strict=True):
        assert np.allclose(told.forces_eV_per_A, frame.arrays[fr.FORCES], atol=1e-3)
    if form != "angular":  # whose columns are not independent of those of the pair potential
        assert all(np.allclose(found.coefficients[b], truth.coefficients[b], atol=1e-3) for b in FORMS[form])


@pytest.mark.parametrize("form", list(FORMS))
def test_auto_takes_the_simplest_form_that_holds_the_truth(form):
    truth = correction(form, seed=2)
    found, trials = fitted(references(truth, alloys()), form="auto", ridge=1e-9)
    assert found.form == form
    assert [trial.form for trial in trials] == list(FORMS)
    assert set(trials[0].by_group_meV_per_A) == {"Cu", "AlCu3", "AlCu", "Al3Cu"}


def test_a_richer_form_must_win_by_more_than_a_hundredth():
    trials = [Trial(form, 1.0, error, {}) for form, error in (("none", 100.0), ("scale", 99.5), ("pair", 98.9))]
    assert choose(trials).form == "pair"
    assert choose(trials[:2]).form == "none"
    assert choose([*trials, Trial("angular", 1.0, 98.5, {})]).form == "pair"


def test_cross_validation_fits_without_the_group_it_judges():
    frames = references(correction("scale", seed=3), [alloy(i, n) for i, n in ((1, 1), (2, 1), (3, 2), (4, 2))])
    teacher = TEACHER.compute(frames)
    _, (none, scale) = fitted(frames, form="scale", ridge=5.0)
    for name, judged, others in (("AlCu3", [0, 1], [2, 3]), ("AlCu", [2, 3], [0, 1])):
        forces = [np.array([teacher[i].forces_eV_per_A for i in rows]).ravel() for rows in (judged, others, range(4))]
        wants = [np.array([frames[i].arrays[fr.FORCES] for i in rows]).ravel() for rows in (judged, others)]
        share = forces[1] @ (wants[1] - forces[1]) / (forces[1] @ forces[1] + 5.0 * np.mean(forces[2] ** 2))
        assert none.by_group_meV_per_A[name] == pytest.approx(np.abs(wants[0] - forces[0]).mean() * 1e3)
        assert scale.by_group_meV_per_A[name] == pytest.approx(np.abs(wants[0] - (1 + share) * forces[0]).mean() * 1e3)


def test_the_ridge_is_chosen_by_cross_validation():
    frames = references(correction("pair", seed=4), alloys())
    rng = np.random.default_rng(0)
    for frame in frames:
        frame.arrays[fr.FORCES] = frame.arrays[fr.FORCES] + rng.normal(0, 0.05, (4, 3))
    errors = {r: fitted(frames, form="pair", ridge=r)[1][1].force_mae_meV_per_A for r in (1, 3, 10, 30, 100)}
    chosen = fitted(frames, form="pair")[1][1]
    near = [ridge for ridge, error in errors.items() if error < 1.02 * min(errors.values())]
    assert chosen.ridge == max(near)
    assert 1 < chosen.ridge < 100  # else this says nothing of the choice
    assert chosen.force_mae_meV_per_A == pytest.approx(errors[chosen.ridge])
    strong = fitted(frames, form="pair", ridge=1e9)[0]  # pulls all the way to the teacher as it comes
    assert np.allclose(strong.apply(frames, TEACHER.compute(frames))[0].forces_eV_per_A,
                       TEACHER.compute(frames)[0].forces_eV_per_A, atol=1e-4)  # fmt: skip


def test_groups_are_keys_or_compositions_or_blocks():
    frames = [alloy(i, n) for i, n in enumerate((1, 1, 2, 2))]
    assert groups(frames, ()) == ["AlCu3", "AlCu3", "AlCu", "AlCu"]
    assert groups([frames[0], frames[0].repeat(2), frames[2]], ()) == ["AlCu3", "AlCu3", "AlCu"]
    for frame, start in zip(frames, "abab", strict=True):
        frame.info |= {"start": start, "T": 300}
    assert groups(frames, ("start", "T")) == ["a/300", "b/300", "a/300", "b/300"]
    assert groups(frames, ("T",)) == ["block 0", "block 1", "block 2", "block 3"]
    assert groups([frames[0]] * 40, ()) == [f"block {i // 4}" for i in range(40)]


def test_frames_of_one_element_and_an_element_that_they_lack():
    train = references(correction("pair", seed=5), [alloy(i, 0) for i in range(12)])
    wanted = Correction(form="auto", n_basis=4, max_ell=3)
    found, _ = fit(train, TEACHER.compute(train), wanted, ("Al", "Cu"))
    assert found.form in ("pair", "angular")
    mixed = [alloy(3, 2)]
    (told,) = found.apply(mixed, TEACHER.compute(mixed))
    assert np.isfinite(told.forces_eV_per_A).all()
    (alone,) = found.apply([Atoms("Al", cell=[20] * 3, pbc=True)], [Prediction(0.0, np.zeros((1, 3)))])
    assert np.allclose(alone.forces_eV_per_A, 0)


def test_far_from_the_training_frames_the_correction_fades():
    truth = correction("pair", seed=1)
    train, near = references(truth, alloys()), [alloy(500 + i, 2) for i in range(5)]
    far = [atoms.copy() for atoms in near]
    for atoms in far:
        atoms.set_cell(atoms.cell.array * 0.75, scale_atoms=True)
    faded, _ = fitted(train, form="pair", ridge=0.1, damping=10.0)
    full, _ = fitted(train, form="pair", ridge=0.1)

    def shares(frames):
        said = TEACHER.compute(frames)
        pairs = zip(faded.apply(frames, said), full.apply(frames, said), said, strict=True)
        return [np.linalg.norm(a.forces_eV_per_A - t.forces_eV_per_A)
                / np.linalg.norm(b.forces_eV_per_A - t.forces_eV_per_A) for a, b, t in pairs]  # fmt: skip

    assert min(shares(near)) > 0.9
    assert max(shares(far)) < 0.1


def test_leverage_is_that_of_the_textbook():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    ridge = _Ridge(x, y)
    hat = x @ np.linalg.inv(x.T @ x + 2.0 * np.eye(3)) @ x.T
    assert np.allclose(np.sum((x @ ridge.root(2.0).T) ** 2, axis=1), np.diag(hat))
    assert ridge.mean_leverage(2.0) == pytest.approx(np.trace(hat) / 40)
    assert np.allclose(x @ ridge.values(2.0), hat @ y)
    rest = ridge.without(x[:7], y[:7])
    assert np.allclose(rest.values(2.0), _Ridge(x[7:], y[7:]).values(2.0))


def test_what_is_written_is_what_is_read(tmp_path):
    truth = correction("angular")
    n_columns = sum(map(len, truth.coefficients.values()))
    truth = replace(truth, reach=Reach(np.random.default_rng(1).normal(size=(n_columns, n_columns)), 500.0))
    truth.write(tmp_path / "correction.json", cross_validation=[])
    read = TeacherCorrection.read(tmp_path / "correction.json")
    told = TEACHER.compute([alloy(7)])
    for one, other in zip(truth.apply([alloy(7)], told), read.apply([alloy(7)], told), strict=True):
        assert one.energy_eV == other.energy_eV
        assert np.array_equal(one.forces_eV_per_A, other.forces_eV_per_A)
    assert read.suffix == "+angular"
    assert TeacherCorrection("none", basis(), {}).suffix == ""


def test_too_few_frames_and_an_unknown_key_are_refused():
    frames = references(correction("scale"), [alloy(1), alloy(2)])
    with pytest.raises(DataError, match="two training frames"):
        fitted(frames[:1], form="scale")
    assert fitted(frames[:1], form="auto")[0].form == "none"
    with pytest.raises(DataError, match=r"has no strt; it has .*label_source"):
        fitted(frames, form="scale", group_keys=("strt",))


@pytest.mark.parametrize("form", [None, "scale"])
def test_cross_labels_ask_for_the_error_of_the_corrected_teacher(tmp_path, form):
    frames = references(correction("pair"), [alloy(i) for i in range(3)])
    fr.write_frames(tmp_path / "valid.extxyz", frames)
    by = None if form is None else tmp_path / "correction.json"
    if by is not None:
        correction("scale").write(by)
    share = 0.0 if form is None else correction("scale").coefficients["scale"][0]
    context = Context(tmp_path, "iter-00/label", 0, "cpu", EventBus([]))
    entry = {"python": "ase.calculators.emt:EMT"}
    labeller = Labeller(context, tmp_path, "mace", entry, None, tmp_path / "valid.extxyz", by)
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
