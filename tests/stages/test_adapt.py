"""The teacher fine-tuned on the task's labels: CHGNet itself, and a small MACE in place of a foundation model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from alloy import refused, write_alloy, write_recipe
from click.testing import CliRunner
from foundation import write_foundation

from ipip_ext import admission
from ipip_ext.backends.base import FitData, FitHooks, FitJob
from ipip_ext.backends.conformance.task import Interrupted, alloy
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.data.metrics import errors
from ipip_ext.errors import WorkspaceError
from ipip_ext.recipe.file import load_recipe
from ipip_ext.recipe.training import Adapt
from ipip_ext.run.events import EventBus, read_events
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.adapt import adapt
from ipip_ext.stages.inputs import Task
from ipip_ext.teachers import entries
from ipip_ext.teachers.chgnet import tuning

SETTINGS = Adapt(epochs=3, batch_size=2, warmup_steps=2)


@pytest.fixture(scope="module")
def chgnet():
    return entries.make("chgnet", device="cpu")


@pytest.fixture(scope="module")
def data() -> FitData:
    frames = [alloy(seed) for seed in range(6)]
    return FitData(frames[:4], frames[4:])


def tuned(chgnet, data, folder, settings=SETTINGS, hooks=FitHooks()):  # noqa: B008 - frozen
    return tuning.tune(chgnet, data, settings, FitJob(1, folder, "cpu", hooks))


def test_chgnet_learns_its_file_says_the_same_and_the_given_one_is_left_alone(chgnet, data, tmp_path):
    before = chgnet.compute(data.valid)
    result = tuned(chgnet, data, tmp_path)
    now = chgnet.compute(data.valid)
    assert all(np.array_equal(a.forces_eV_per_A, b.forces_eV_per_A) for a, b in zip(before, now, strict=True))
    assert result.valid["force_mae_meV_per_A"] < errors(data.valid, before)["force_mae_meV_per_A"]

    tuning.save(result.model, tmp_path / "adapted.model")
    loaded = entries.make({"chgnet": "adapted.model"}, device="cpu", root=tmp_path)
    assert loaded.name == "chgnet:adapted"
    found = errors(data.valid, loaded.compute(data.valid))
    for key in ("force_mae_meV_per_A", "energy_mae_meV_per_atom"):
        assert found[key] == pytest.approx(result.valid[key], rel=1e-3)


def test_its_energies_move_to_the_zeros_of_the_task_and_forces_stay(chgnet, data, tmp_path):
    frozen = SETTINGS.model_copy(update={"epochs": 1, "lr": 1e-12})
    result = tuned(chgnet, data, tmp_path, frozen)
    model = type(chgnet)(result.model, "it", "cpu")
    old, new = chgnet.compute(data.train), model.compute(data.train)
    assert all(np.allclose(a.forces_eV_per_A, b.forces_eV_per_A, atol=1e-4) for a, b in zip(old, new, strict=True))
    found, was = errors(data.train, new), errors(data.train, old)
    assert found["energy_mae_meV_per_atom"] < 0.2 * was["energy_mae_meV_per_atom"]


def test_totals_of_all_electron_codes_stay_fine(chgnet, data, tmp_path):
    """In what is trained, in its file, in its calculator: steps of float32 would be a quarter of an eV."""
    lifted = []
    for frame in [*data.train, *data.valid]:
        lifted.append(frame.copy())
        lifted[-1].info[fr.ENERGY] += -5e5 * len(frame)
    task = FitData(lifted[:4], lifted[4:])
    high, low = (tuned(chgnet, given, tmp_path / name) for name, given in (("high", task), ("low", data)))
    tuning.save(high.model, tmp_path / "adapted.model")
    tuning.save(low.model, tmp_path / "low.model")
    images = [lifted[0].copy() for _ in range(5)]
    for step, image in enumerate(images):
        image.positions[1, 0] += 0.01 * step
    found, right = (
        entries.make({"chgnet": name}, device="cpu", root=tmp_path) for name in ("adapted.model", "low.model")
    )
    for one, other in zip(found.compute(images), right.compute(images), strict=True):
        assert one.energy_eV + 5e5 * 4 == pytest.approx(other.energy_eV, abs=1e-3)
        assert np.allclose(one.forces_eV_per_A, other.forces_eV_per_A, atol=1e-4)
    image = images[3]
    image.calc = found.calculator()
    assert image.get_potential_energy() == pytest.approx(found.compute([image])[0].energy_eV, abs=1e-6)
    assert errors(task.valid, found.compute(task.valid))["energy_mae_meV_per_atom"] == pytest.approx(
        high.valid["energy_mae_meV_per_atom"], rel=1e-3
    )


def test_chgnet_resumes_bitwise(chgnet, data, tmp_path):
    straight = tuned(chgnet, data, tmp_path / "straight")

    def interrupt(share: float, _text: str) -> None:
        if share > 0.5:
            raise Interrupted

    with pytest.raises(Interrupted):
        tuned(chgnet, data, tmp_path / "cut", hooks=FitHooks(progress=interrupt))
    resumed = tuned(chgnet, data, tmp_path / "cut")
    for name, value in straight.model.state_dict().items():
        assert value.equal(resumed.model.state_dict()[name]), name


def test_its_groups_hold_each_parameter_once_and_frozen_ones_stay(chgnet, data, tmp_path):
    held = tuning.groups(chgnet.model)
    apart = [name for group in ("readouts", "interactions", "embedding") for name in held[group]]
    assert sorted(apart) == sorted(held["all"])
    assert min(len(names) for names in held.values()) > 0
    result = tuned(chgnet, data, tmp_path, SETTINGS.model_copy(update={"epochs": 1, "freeze": ("interactions",)}))
    old, new = dict(chgnet.model.named_parameters()), dict(result.model.named_parameters())
    moved = {name for name in new if not new[name].equal(old[name])}
    assert moved & set(held["readouts"])
    assert not moved & set(held["interactions"])
    assert not [name for name in moved if name.startswith("site_wise.")]


def test_the_network_says_what_the_potential_says_stress_too(chgnet, data):
    network = tuning.ChgnetNetwork(chgnet, stress=True)
    network.module.eval()
    output = network.evaluate([network.graph(frame) for frame in data.train], training=False, stress=True)
    for index, (frame, said) in enumerate(zip(data.train, chgnet.compute(data.train, stress=True), strict=True)):
        energy = float(output["energy"][index].detach()) + network.energy_zero(frame)
        assert energy == pytest.approx(said.energy_eV, rel=1e-5)
        assert np.allclose(output["stress"][index].detach(), said.stress_eV_per_A3, atol=1e-5)
    forces = np.concatenate([said.forces_eV_per_A for said in chgnet.compute(data.train)])
    assert np.allclose(output["forces"].detach(), forces, atol=1e-4)


def test_the_stage_leaves_chgnet_as_an_entry_reads_it_and_its_labels(data, tmp_path):
    fr.write_frames(tmp_path / "train.extxyz", data.train)
    fr.write_frames(tmp_path / "valid.extxyz", data.valid)
    fr.write_frames(tmp_path / "pool.extxyz", [*data.valid, alloy(9)])
    events: list = []
    done = Workspace(tmp_path / "run", EventBus([events.append]), seed=1).do(
        adapt, SETTINGS, teacher="chgnet", task=Task(tmp_path / "train.extxyz", tmp_path / "valid.extxyz"),
        pool=tmp_path / "pool.extxyz",
    )  # fmt: skip
    assert done.kind == "chgnet"
    potential = entries.make({done.kind: str(done.file)}, device="cpu")
    pool = fr.read_frames(done.frames)
    assert {frame.info[fr.SOURCE] for frame in pool} == {"teacher:chgnet:adapted"}
    for frame, said in zip(pool, potential.compute(pool), strict=True):
        assert np.allclose(frame.arrays[fr.FORCES], said.forces_eV_per_A, atol=1e-5)
    told = {event.name: event.value for event in events if event.kind == "metric"}
    assert told["teacher_valid_force_mae_meV_per_A"] == done.valid["force_mae_meV_per_A"]
    assert told["teacher_valid_force_mae_before_meV_per_A"] > told["teacher_valid_force_mae_meV_per_A"]
    assert not (done.folder / "fit").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a finished run whose teacher was adapted, and once more with each bought label."""
    folder = tmp_path_factory.mktemp("adapted")
    write_alloy(folder)
    write_foundation(folder / "foundation.model")
    bought = {"calculator": {"python": "ase.calculators.emt:EMT"}, "budget": 2, "max_teacher_force_eV_per_A": None}
    write_recipe(
        folder, folder, teacher={"mace": "foundation.model"}, tracking={"enabled": False}, correct={"form": "auto"},
        adapt={"epochs": 4, "batch_size": 2, "lr": 0.01}, label={"reference": bought}, committee={"size": 2},
        baselines=[{"kind": "teacher"}, {"kind": "adapted"}, {"kind": "distilled"}], min_improvement=None,
        select={"max_force_eV_per_A": 1e6, "max_gap_A": None, "density_factor": None, "min_distance_factor": 0.1},
    )  # fmt: skip
    done = run(folder)
    assert done.exit_code == 0, done.output
    return folder


def run(folder: Path):
    arguments = ["run", str(folder / "recipe.yaml"), "--workdir", str(folder / "run"), "--trust-models"]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def record(folder: Path, stage: str) -> dict:
    return json.loads((folder / "run" / stage / "stage.json").read_text())


def test_the_teacher_explores_the_adapted_one_labels_and_nothing_is_corrected(folder):
    made = record(folder, "adapt")
    assert made["values"]["valid"]["force_mae_meV_per_A"] < made["values"]["valid_before_force_mae_meV_per_A"]
    assert not (folder / "run/correct").exists()
    explored, pool = (fr.read_frames(folder / "run" / name) for name in ("explore/frames.extxyz", "adapt/pool.extxyz"))
    assert {frame.info[fr.SOURCE] for frame in explored} == {"teacher:mace:foundation.model"}
    assert {frame.info[fr.SOURCE] for frame in pool} == {"teacher:mace:adapted.model"}
    adapted = MaceBackend().foundation(str(folder / "run/adapt/adapted.model"), "cpu")
    for frame, before, said in zip(pool, explored, adapted.compute(pool), strict=True):
        assert np.array_equal(frame.positions, before.positions)
        assert np.allclose(frame.arrays[fr.FORCES], said.forces_eV_per_A, atol=1e-6)
    pretrained = record(folder, "iter-00/pretrain")["fingerprint"]["inputs"]["pool"]
    assert pretrained == f"sha256:{made['outputs']['frames']['sha256']}"


def test_bought_labels_adapt_it_again(folder):
    first, second = record(folder, "adapt"), record(folder, "iter-00/adapt")
    assert second["values"]["n_train"] == first["values"]["n_train"] + 2
    file = f"sha256:{second['outputs']['file']['sha256']}"
    assert record(folder, "iter-00/label")["fingerprint"]["inputs"]["teacher"] == {"mace": file}
    inputs = second["fingerprint"]["inputs"]  # from the teacher as it comes, not from what the first has made of it
    assert inputs["teacher"] == first["fingerprint"]["inputs"]["teacher"]
    said = CliRunner().invoke(main, ["check", str(folder / "recipe.yaml"), "--trust-models"], catch_exceptions=False)
    assert "adapt x 2 (the teacher)" in said.output


def test_it_is_a_row_and_its_labels_count_as_what_the_student_cost(folder):
    with (folder / "run/compare.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file) if row["split"] == "test"}
    plain = next(row for name, row in rows.items() if name.startswith("teacher"))
    assert float(rows["adapted"]["force_mae_meV_per_A"]) < float(plain["force_mae_meV_per_A"])
    shifted = next(line for line in (folder / "run/compare.txt").read_text().splitlines() if "energies shifted" in line)
    assert "adapted, " in shifted  # it learns no energies
    n_prepared = sum(record(folder, "prepare")["values"][key] for key in ("n_train", "n_valid"))
    assert int(float(rows["distilled"]["n_reference_labels"])) == n_prepared  # by its teacher


def test_it_is_adapted_once(folder):
    count = len(list(read_events(folder / "run/events.jsonl")))
    assert run(folder).exit_code == 0
    again = list(read_events(folder / "run/events.jsonl"))[count:]
    assert {e.name for e in again if e.stage in ("adapt", "iter-00/adapt")} == {"reused"}


@pytest.mark.parametrize(
    ("sets", "stage"),
    [
        (["adapt.epochs=5"], "adapt"),
        (["adapt=null", "baselines=[]"], "pretrain"),
        (["adapt=null", "baselines=[]", "correct.form=none"], "pretrain"),
        (["label.reference.budget=3"], "ask"),
        (["label.reference=null"], "label"),
    ],
)
def test_a_finished_run_names_the_stage_from_which_a_change_starts_over(folder, sets, stage):
    recipe = load_recipe(folder / "recipe.yaml", sets)
    with pytest.raises(WorkspaceError, match=f"start over with --redo {stage}"):
        admission.admit(recipe, folder / "run")
    admission.admit(recipe, folder / "run", redo=stage)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"adapt": {}}, "recipe.yaml: adapt: python:EMT can't be fine-tuned, chgnet and {mace: ...} can"),
        ({"adapt": {}, "teacher": "chgnet", "correct": {"form": "pair"}}, "adapt and correct.form pair would both"),
        ({"baselines": [{"kind": "adapted"}]}, "the baseline adapted is the teacher that adapt has fine-tuned"),
        ({"adapt": {"freeze": ["readout"]}, "teacher": "chgnet"}, "adapt: freeze: readout is unknown. Did you mean"),
        ({"adapt": {"lr_factors": {"product": 1}}, "teacher": {"mace": "foundation.model"}}, "Did you mean products?"),
        ({"adapt": {"freeze": ["all"]}, "teacher": "chgnet"}, "adapt: freeze: nothing is left to train"),
    ],
)
def test_a_mistake_is_told_before_the_run(folder, tmp_path, changes, wanted):
    write_foundation(tmp_path / "foundation.model")
    write_recipe(tmp_path, folder, **changes)
    assert wanted in refused("run", tmp_path / "recipe.yaml", "--workdir", tmp_path / "run", "--trust-models")
    assert not (tmp_path / "run").exists()


def test_a_foundation_that_lacks_an_element_is_told_before_the_run(folder, tmp_path):
    backend = MaceBackend()
    small = backend.build(
        backend.load(folder / "run/model").spec.config, {"Cu": 0.0}, [alloy(0)[[0]]], seed=0
    )  # fmt: skip
    backend.export(small, tmp_path)
    write_recipe(tmp_path, folder, adapt={}, teacher={"mace": "student.model"})
    assert "does not know" in refused("check", tmp_path / "recipe.yaml")
