"""Committees: what they say, what their spread is worth, whom they ask."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from alloy import cell, label, write_recipe
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from click.testing import CliRunner

from ipip_ext import load_calculator
from ipip_ext.backends.committee import CommitteePotential, Opinion, calibrate, frame_spread
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.errors import ModelFileError
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe.labels import Asking
from ipip_ext.run.events import EventBus
from ipip_ext.run.stage import Context
from ipip_ext.stages.committee import _sane, ask, powered
from ipip_ext.stages.inputs import Candidates, Task, Voters
from ipip_ext.stages.train import _weighted

REFERENCE = {"python": "ase.calculators.emt:EMT", "kwargs": {"asap_cutoff": True}}


class Says:
    """A potential that always gives the same energy and force."""

    name, batched, n_parameters = "says", True, 7

    def __init__(self, energy_eV: float, force: float) -> None:
        self.energy_eV, self.force = energy_eV, force

    def compute(self, frames, **_options):
        return [Prediction(self.energy_eV, np.full((len(f), 3), self.force)) for f in frames]


def test_mean_and_spread_are_those_of_the_members():
    joint = CommitteePotential([Says(1.0, 0.0), Says(2.0, 1.0), Says(6.0, 5.0)], "committee")
    (opinion,) = joint.opinions([cell(1)])
    assert opinion.mean.energy_eV == pytest.approx(3.0)
    assert np.allclose(opinion.mean.forces_eV_per_A, 2.0)
    assert opinion.energy_spread_eV == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert np.allclose(opinion.force_spread_eV_per_A, np.std([0, 1, 5], ddof=1))
    assert frame_spread(opinion) == pytest.approx(np.std([0, 1, 5], ddof=1))
    assert joint.n_parameters == 21


def test_calibration_finds_what_a_spread_is_worth():
    rng = np.random.default_rng(0)
    opinions, frames = [], []
    for i in range(60):
        frame, spread = label(cell(i)), rng.uniform(0.05, 0.5, 4)
        error = rng.normal(size=(4, 3)) * 2.0 * spread[:, None]
        mean = Prediction(0.0, frame.arrays[fr.FORCES] + error)
        opinions.append(Opinion(mean, 0.0, spread))
        frames.append(frame)
    found = calibrate(opinions, frames)
    assert found.error_per_spread == pytest.approx(2.0, rel=0.1)
    assert found.rank_correlation > 0.5
    curve = found.curve
    assert [point["spread_meV_per_A"] for point in curve] == sorted(point["spread_meV_per_A"] for point in curve)
    assert all(point["error_meV_per_A"] / point["spread_meV_per_A"] == pytest.approx(2.0, rel=0.4) for point in curve)


def test_pool_frames_weigh_what_their_source_does():
    frame = label(cell(1))
    frame.info[fr.SOURCE] = "teacher:chgnet"
    assert fr.WEIGHT not in _weighted(frame, {"self": 0.5}).info
    assert _weighted(frame, {"teacher": 0.25}).info[fr.WEIGHT] == 0.25


@pytest.fixture(scope="module")
def run(tmp_path_factory, alloy_data) -> Path:
    """A tiny run with cross labels, three reference labels, and the committee exported."""
    folder = tmp_path_factory.mktemp("committee")
    write_recipe(
        folder, alloy_data, tracking__enabled=False, label__policy="cross",
        label__reference={"calculator": REFERENCE, "budget": 3, "choice": "diverse", "candidates_per_label": 2},
        committee={"size": 3, "export": True}, baselines=[{"kind": "teacher"}], evaluate__speed_supercells=[],
    )  # fmt: skip
    with contextlib.chdir(folder):
        done = CliRunner().invoke(main, ["run", "recipe.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / "runs" / "tiny"


def the_rest(run: Path) -> dict[str, object]:
    """What `ask` is given besides its settings, calculators and candidates."""
    return {
        "voters": Voters(run / "iter-00/committee/members", "mace"),
        "task": Task(run / "prepare/train.extxyz", run / "prepare/valid.extxyz"),
        "test": run / "prepare/test.extxyz",
    }


def committee_of(run: Path, at: str) -> CommitteePotential:
    return CommitteePotential.load(run / at / "committee" / "members", "mace", "cpu")


@pytest.mark.slow
def test_members_differ_and_the_first_is_the_student(run):
    from ipip_ext.backends import registry

    backend = registry.backend("mace")
    members = [backend.parameters(backend.load(run / f"iter-00/committee/members/{k}")) for k in range(3)]
    student = backend.parameters(backend.load(run / "iter-00/finetune/model"))
    assert all(np.array_equal(members[0][name], student[name]) for name in student)
    assert not any(
        np.array_equal(members[1][n], members[2][n]) for n in student if "weight" in n and student[n].size > 9
    )


@pytest.mark.slow
def test_the_reference_is_asked_where_the_committee_is_least_sure(run):
    before, after = (fr.read_frames(run / name) for name in ("prepare/train.extxyz", "iter-00/ask/train.extxyz"))
    asked = after[len(before) :]
    assert len(asked) == 3
    new, old = (fr.read_frames(run / name) for name in ("iter-00/select/frames.extxyz", "explore/frames.extxyz"))
    opinions = committee_of(run, "iter-00").opinions([*new, *old])
    spread = {f.info[fr.ID]: frame_spread(o) for f, o in zip([*new, *old], opinions, strict=True)}
    least_sure = sorted(spread, key=spread.__getitem__)[-6:]
    assert {frame.info[fr.ID] for frame in asked} <= set(least_sure)
    for frame in asked:
        atoms = frame.copy()
        atoms.calc = EMT(asap_cutoff=True)
        assert np.allclose(frame.arrays[fr.FORCES], atoms.get_forces(), atol=1e-6)
        assert frame.info[fr.SOURCE] == "reference:python:EMT"
    left = [fr.read_frames(run / f"iter-00/ask/{name}.extxyz") for name in ("rest", "pool")]
    for before, after in zip((new, old), left, strict=True):
        ids = {frame.info[fr.ID] for frame in asked}
        assert [f.info[fr.ID] for f in after] == [f.info[fr.ID] for f in before if f.info[fr.ID] not in ids]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("among", "place"), [("new", "iter-00/select/frames.extxyz"), ("pool", "explore/frames.extxyz")]
)
def test_the_reference_is_asked_among_the_frames_named(run, tmp_path, among, place):
    ctx = Context(tmp_path, "iter-00/ask", 0, "cpu", EventBus([]))
    found = ask(
        ctx, Asking(budget=3, among=among, choice="power"), calculator=REFERENCE, teacher=REFERENCE,
        candidates=Candidates(run / "iter-00/select/frames.extxyz", run / "explore/frames.extxyz"),
        **the_rest(run),
    )  # fmt: skip
    asked = fr.read_frames(found["train"])[-3:]
    before = {frame.info[fr.ID]: frame for frame in fr.read_frames(run / place)}
    assert len({frame.info[fr.ID] for frame in asked}) == 3
    for frame in asked:
        assert np.allclose(frame.positions, before.pop(frame.info[fr.ID]).positions)
        assert np.allclose(frame.arrays[fr.FORCES], calculate(frame), atol=1e-6)
    assert {f.info[fr.ID] for f in fr.read_frames(found["rest" if among == "new" else "pool"])} == before.keys()


@pytest.mark.slow
def test_a_pool_remains_however_many_labels_may_be_bought(run, tmp_path):
    ctx = Context(tmp_path, "iter-00/ask", 0, "cpu", EventBus([]))
    few = fr.read_frames(run / "explore/frames.extxyz")[:7]
    fr.write_frames(tmp_path / "few.extxyz", few)
    fr.write_frames(tmp_path / "none.extxyz", [])
    found = ask(
        ctx, Asking(budget=100, max_teacher_force_eV_per_A=None), calculator=REFERENCE, teacher=REFERENCE,
        candidates=Candidates(tmp_path / "none.extxyz", tmp_path / "few.extxyz"), **the_rest(run),
    )  # fmt: skip
    assert found["n_labelled"] == 3
    assert len(fr.read_frames(found["pool"])) == 4


def test_power_draws_in_proportion_to_the_spread():
    spread = np.array([0.0, 1.0, 2.0, 6.0])
    first = [powered([3, 2, 1, 0], spread, seed)[0] for seed in range(3000)]
    assert np.allclose(np.bincount(first, minlength=4) / 3000, spread / 9, atol=0.03)
    assert sorted(powered([3, 1], spread, 0)) == [1, 3]
    assert powered([0, 1, 2, 3], spread, 5) == powered([0, 1, 2, 3], spread, 5)


class Bare:
    """What `_sane` needs of a stage's context."""

    device, home = "cpu", Path()

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.note = self.notes.append


def test_frames_that_the_teacher_finds_wild_are_not_asked_for():
    frames = [cell(seed) for seed in range(6)]
    forces = [np.linalg.norm(calculate(f), axis=1).max() for f in frames]
    frames[2].positions[0] = frames[2].positions[1] + [0.9, 0, 0]  # a student without repulsion came here
    limit = 1.01 * max(force for i, force in enumerate(forces) if i != 2)
    assert np.linalg.norm(calculate(frames[2]), axis=1).max() > limit
    for choice, wanted in (("power", 2), ("diverse", 4)):
        ctx, order = Bare(), [1, 2, 0, 5, 4, 3]
        settings = Asking(budget=2, candidates_per_label=2, choice=choice, max_teacher_force_eV_per_A=limit)
        assert _sane(ctx, settings, REFERENCE, frames, order) == [1, 0, 5, 4][:wanted]
        assert len(ctx.notes) == 1
        anything = settings.model_copy(update={"max_teacher_force_eV_per_A": None})
        assert _sane(ctx, anything, REFERENCE, frames, order) == order[:wanted]


def calculate(atoms):
    atoms = atoms.copy()
    atoms.calc = EMT(asap_cutoff=True)
    return atoms.get_forces()


@pytest.mark.slow
def test_the_next_finetuning_learns_from_them(run):
    rounds = [json.loads((run / f"iter-0{i}/finetune/stage.json").read_text())["values"]["n_train"] for i in (0, 1)]
    assert rounds == [12, 15]


@pytest.mark.slow
def test_cross_labels_follow_the_calibrated_threshold(run):
    fresh = [f for f in fr.read_frames(run / "iter-00/label/pool.extxyz") if f.info[fr.ID].startswith("it01")]
    joint = committee_of(run, "iter-00")
    worth = json.loads((run / "iter-00/committee/calibration.json").read_text())["error_per_spread"]
    valid = fr.read_frames(run / "prepare/valid.extxyz")
    errors = []
    for frame in valid:
        atoms = frame.copy()
        atoms.calc = EMT()
        errors.append(atoms.get_forces() - frame.arrays[fr.FORCES])
    limit = np.sqrt(np.mean(np.concatenate(errors) ** 2))
    for frame, opinion in zip(fresh, joint.opinions(fresh), strict=True):
        by_committee = frame_spread(opinion) * worth < limit
        assert frame.info[fr.SOURCE].startswith("committee:iter-00" if by_committee else "teacher:")
    # here the teacher is nearly the reference, so no committee of students should be believed
    assert {frame.info[fr.SOURCE] for frame in fresh} == {"teacher:python:EMT"}


@pytest.mark.slow
def test_the_exported_committee_is_a_calculator_with_its_spread(run, finished_run):
    atoms = cell(3)
    atoms.calc = load_calculator(run, committee=True)
    best = json.loads((run / "model" / "stage.json").read_text())["values"]["iteration"]
    (opinion,) = committee_of(run, f"iter-0{best}").opinions([atoms])
    assert atoms.get_potential_energy() == pytest.approx(opinion.mean.energy_eV)
    assert np.allclose(atoms.get_forces(), opinion.mean.forces_eV_per_A)
    assert np.allclose(atoms.calc.results["forces_spread"], opinion.force_spread_eV_per_A)
    worth = json.loads((run / "model" / "calibration.json").read_text())["error_per_spread"]
    assert np.allclose(atoms.calc.results["forces_error"], opinion.force_spread_eV_per_A * worth)
    members = []
    for member in committee_of(run, f"iter-0{best}").members:
        alone = atoms.copy()
        alone.calc = member.calculator()
        members.append(alone.get_stress())
    assert np.allclose(atoms.get_stress(), np.mean(members, axis=0))
    slab = atoms.copy()
    slab.pbc = (True, True, False)
    slab.calc = atoms.calc
    assert np.all(slab.get_stress()[2:5] == 0)  # of a slab, that in its plane
    slab.pbc = (True, False, False)
    with pytest.raises(PropertyNotImplementedError, match="periodic in two directions"):
        slab.get_stress()
    with pytest.raises(ModelFileError, match=r"committee\.export: true"):
        load_calculator(finished_run / "runs" / "tiny", committee=True)


@pytest.mark.slow
def test_the_report_sets_expected_errors_beside_those_on_test_frames(run):
    best = json.loads((run / "model" / "stage.json").read_text())["values"]["iteration"]
    at = f"iter-0{best}"
    joint = committee_of(run, at)
    worth = json.loads((run / at / "committee/calibration.json").read_text())["error_per_spread"]
    told = json.loads((run / at / "calibration/test.json").read_text())
    frames = fr.read_frames(run / "prepare/test.extxyz")
    splits = {
        "test": frames,
        "test_id": [f for f in frames if f.info["start"] != "s2"],
        "test_ood": [f for f in frames if f.info["start"] == "s2"],
    }
    assert told.keys() == splits.keys()
    table = (run / "compare.txt").read_text()
    block = table.split("expected errors of committee")[1].split("\n\n")[0]
    lines = {words[0]: words for words in map(str.split, block.splitlines()) if words}
    for split, some in splits.items():
        error, expected = [], []
        for frame, opinion in zip(some, joint.opinions(some), strict=True):
            error.append(opinion.mean.forces_eV_per_A - frame.arrays[fr.FORCES])
            expected.append(np.repeat(opinion.force_spread_eV_per_A[:, None], 3, axis=1) * worth)
        ratio = np.abs(np.concatenate(error)) / np.concatenate(expected)
        assert told[split]["within_1x"] == pytest.approx(np.mean(ratio < 1), abs=0.03)
        assert told[split]["within_2x"] == pytest.approx(np.mean(ratio < 2), abs=0.03)
        rms = np.sqrt(np.mean(np.square(np.concatenate(error))) / np.mean(np.square(np.concatenate(expected))))
        assert told[split]["error_per_expected"] == pytest.approx(rms, rel=1e-3)
        assert lines[split][1:3] == [str(4 * len(some)), f"{told[split]['error_per_expected']:.2f}"]
    assert (run / "calibration.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["committee"])
def test_committee_labels(run, policy, tmp_path):
    import shutil

    shutil.copytree(run.parent.parent, tmp_path / "copy")
    with contextlib.chdir(tmp_path / "copy"):
        sets = ["--set", f"label.policy={policy}", "--set", "label.reference=null"]
        done = CliRunner().invoke(main, ["run", "recipe.yaml", "--redo", "label", *sets], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        pool = fr.read_frames(Path("runs/tiny/iter-00/label/pool.extxyz"))
    assert [f.info[fr.SOURCE] for f in pool[:16]] == ["committee:iter-00"] * 16
