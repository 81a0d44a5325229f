"""What is measured: by hand, on the same frames for every model, none dropped, and taken apart rightly."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from alloy import cell, label
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from ipip_ext import load_calculator
from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.errors import StageFailed
from ipip_ext.measure.breakdown import Examined, read, take_apart
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe.evaluate import Evaluate
from ipip_ext.report.html.structures import worst
from ipip_ext.run.events import EventBus, read_events
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages import inputs
from ipip_ext.stages.evaluate import _write_per_frame, evaluate, predict
from ipip_ext.stages.inputs import Calculator, Model
from ipip_ext.stages.memory import on_cpu
from ipip_ext.stages.speed import speed
from ipip_ext.teachers.ase_potential import AsePotential

EMT_ENTRY = {"python": "ase.calculators.emt:EMT"}
EMT_MODEL = Model(Calculator(EMT_ENTRY))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- a finished run, checked by hand

MODELS = {
    "ipip": ("model", None),
    "iteration-0": ("iter-00/finetune/model", None),
    "iteration-1": ("iter-01/finetune/model", None),
    "scratch": ("baseline-scratch/scratch/model", None),
    "teacher (python:EMT)": (None, "train"),
}
"""Folder of the student, or the frames on which the energy zeros are fitted."""


def by_hand(calculator: Any, frame: Atoms) -> tuple[float, np.ndarray]:
    atoms = Atoms(frame.symbols, positions=frame.positions, cell=frame.cell, pbc=frame.pbc, calculator=calculator)
    return atoms.get_potential_energy(), atoms.get_forces()


def counts(frame: Atoms) -> np.ndarray:
    symbols = frame.get_chemical_symbols()
    return np.array([symbols.count("Al"), symbols.count("Cu")], dtype=float)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_one_frame_by_hand_gives_the_numbers_of_the_files(finished_run, model):
    run = finished_run / "runs/tiny"
    folder, fitted_on = MODELS[model]
    calculator = EMT() if folder is None else load_calculator(run / folder)
    frames = ase.io.read(run / "prepare/test.extxyz", ":")
    zeros = np.zeros(2)
    if fitted_on:
        train = ase.io.read(run / f"prepare/{fitted_on}.extxyz", ":")
        rest = np.array([f.info["REF_energy"] - by_hand(calculator, f)[0] for f in train])
        zeros = metrics.fit_zeros(np.array([counts(f) for f in train]), rest)
    best = json.loads((run / "model/stage.json").read_text())["values"]["iteration"]
    where = {"ipip": f"iter-{best:02d}", "iteration-0": "iter-00", "iteration-1": "iter-01"}
    place = where.get(model, f"baseline-{model.split()[0]}")
    per_frame = {row["frame_id"]: row for row in table(run / place / "evaluate/per_frame.csv")}
    assert list(per_frame) == [frame.info["frame_id"] for frame in frames]  # all, and each once

    forces, energies = [], []
    for frame in frames:
        energy, predicted = by_hand(calculator, frame)
        energies.append((energy + counts(frame) @ zeros - frame.info["REF_energy"]) / len(frame) * 1000)
        forces.append((predicted - frame.arrays["REF_forces"]) * 1000)
    row = per_frame[frames[3].info["frame_id"]]
    close = {"rel": 1e-3, "abs": 2e-3}  # students compute in float32
    assert float(row["force_mae_meV_per_A"]) == pytest.approx(np.mean(np.abs(forces[3])), **close)
    assert float(row["force_rmse_meV_per_A"]) == pytest.approx(np.sqrt(np.mean(forces[3] ** 2)), **close)
    assert float(row["energy_mae_meV_per_atom"]) == pytest.approx(abs(energies[3]), **close)
    assert float(row["reference_energy_eV"]) == pytest.approx(frames[3].info["REF_energy"])

    (told,) = [r for r in table(run / "compare.csv") if (r["model"], r["split"]) == (model, "test")]
    every = np.concatenate(forces)
    assert int(told["n_frames"]) == len(frames)
    for key, value in {
        "force_mae_meV_per_A": np.mean(np.abs(every)),
        "force_p95_meV_per_A": np.percentile(np.abs(every), 95),
        "energy_mae_meV_per_atom": np.mean(np.abs(energies)),
        "energy_rmse_meV_per_atom": np.sqrt(np.mean(np.square(energies))),
    }.items():
        assert float(told[key]) == pytest.approx(value, **close), key
    low, high = (float(told[f"force_mae_ci95_{end}_meV_per_A"]) for end in ("low", "high"))
    assert low < float(told["force_mae_meV_per_A"]) < high

    said = {e.name: e.data["metrics"] for e in read_events(run / "events.jsonl") if e.kind == "row"}[model]
    symbols = np.concatenate([frame.get_chemical_symbols() for frame in frames])
    for symbol in ("Al", "Cu"):
        mine = np.mean(np.abs(every[symbols == symbol]))
        assert said[f"test_force_mae_{symbol}_meV_per_A"] == pytest.approx(mine, **close)
    ood = [f for f, frame in zip(forces, frames, strict=True) if frame.info["start"] == "s2"]
    assert said["test_force_mae_start_s2_meV_per_A"] == pytest.approx(np.mean(np.abs(ood)), **close)
    assert said["test_ood_force_mae_meV_per_A"] == pytest.approx(np.mean(np.abs(ood)), **close)


@pytest.mark.slow
def test_every_model_says_what_it_cost(finished_run):
    run = finished_run / "runs/tiny"
    rows = {row["model"]: row for row in table(run / "compare.csv")}
    stages = ("prepare", "explore", "iter-00/pretrain", "iter-00/finetune", "iter-00/label", "baseline-scratch/scratch")
    values = {name: json.loads((run / name / "stage.json").read_text()) for name in stages}
    n_labels = sum(values["prepare"]["values"][key] for key in ("n_train", "n_valid"))
    n_pool = values["explore"]["values"]["n_frames"]
    assert rows["teacher (python:EMT)"]["training_wall_s"] == ""
    for name, pseudo, stages in (
        ("scratch", 0, ["prepare", "baseline-scratch/scratch"]),
        ("iteration-0", n_pool, ["prepare", "explore", "iter-00/pretrain", "iter-00/finetune"]),
    ):
        row = rows[name]
        assert (int(row["n_pseudo_labels"]), int(row["n_reference_labels"])) == (pseudo, n_labels)
        assert float(row["training_wall_s"]) == pytest.approx(sum(values[s]["wall_s"] for s in stages), abs=0.01)
    later = rows["iteration-1"]
    assert int(later["n_pseudo_labels"]) == n_pool + values["iter-00/label"]["values"]["n_new"]
    assert float(later["training_wall_s"]) > float(rows["iteration-0"]["training_wall_s"])
    assert "training cost" in (run / "compare.txt").read_text()


@pytest.mark.slow
def test_the_breakdown_adds_up(finished_run):
    rows = [r for r in table(finished_run / "runs/tiny/breakdown.csv") if (r["model"], r["split"]) == ("ipip", "test")]
    (whole,) = [r for r in rows if r["by"] == "all"]
    for by in ("element", "start"):
        some = [r for r in rows if r["by"] == by]
        n_atoms = [int(r["n_atoms"]) for r in some]
        assert sum(n_atoms) == int(whole["n_atoms"]) == 24
        mean = np.average([float(r["force_mae_meV_per_A"]) for r in some], weights=n_atoms)
        assert mean == pytest.approx(float(whole["force_mae_meV_per_A"]))
    assert [r["value"] for r in rows if r["by"] == "start"] == ["s0", "s1", "s2"]
    sizes_ = {(r["model"], int(r["n_atoms"])) for r in table(finished_run / "runs/tiny/speed.csv")}
    assert {n for _, n in sizes_} == {4, 32, 64}
    assert len(sizes_) == 3 * 5


# ---------------------------------------------------------------- numbers


def made_up(seed: int) -> tuple[list[Atoms], list[Prediction]]:
    rng = np.random.default_rng(seed)
    frames, said = [], []
    for i, atoms in enumerate([bulk("Cu"), cell(1), cell(2), cell(1) * (1, 1, 2)]):
        atoms.rattle(0.1, seed=i)
        frames.append(label(atoms, start=f"s{i % 2}", temperature_K=300.0 * (1 + i // 2)))
        frames[-1].info[fr.ID] = f"f{i}"
        frames[-1].info[fr.STRESS] = rng.normal(size=(3, 3))
        said.append(Prediction(rng.normal(), rng.normal(size=(len(atoms), 3)), rng.normal(size=(3, 3))))
    return frames, said


def test_errors_have_their_percentiles_and_stress():
    frames, said = made_up(0)
    found = metrics.errors(frames, said)
    stress = np.array([p.stress_eV_per_A3 - f.info[fr.STRESS] for f, p in zip(frames, said, strict=True)]) * 1000
    energy = [abs(p.energy_eV - f.info[fr.ENERGY]) / len(f) * 1000 for f, p in zip(frames, said, strict=True)]
    assert found["stress_mae_meV_per_A3"] == pytest.approx(np.abs(stress).mean())
    assert found["stress_rmse_meV_per_A3"] == pytest.approx(np.sqrt((stress**2).mean()))
    assert found["energy_p95_meV_per_atom"] == pytest.approx(np.percentile(energy, 95))
    del frames[1].info[fr.STRESS]
    assert not any(key.startswith("stress") for key in metrics.errors(frames, said))


def test_parts_by_a_key_that_differs_in_every_frame(tmp_path):
    frames, said = [frame.copy() for _ in range(3) for frame in made_up(0)[0]], made_up(0)[1] * 3
    for index, frame in enumerate(frames):
        frame.info |= {fr.ID: f"f{index}", "md_step": 11 - index}
    _write_per_frame(tmp_path / "per_frame.csv", frames, said, {"test": range(12)})
    residuals = metrics.Residuals.of(frames, said)
    np.savez(tmp_path / "forces.npz", predicted=residuals.predicted_eV_per_A, reference=residuals.reference_eV_per_A)
    exam = Examined(frames, ("md_step",), "start", 0)
    found = take_apart(exam, tmp_path / "per_frame.csv", tmp_path / "forces.npz", {"test": range(12)})
    parts = [row for row in found.rows if row["by"] == "md_step"]
    assert [part["value"] for part in parts] == [str(step) for step in range(12)]
    for part, index in zip(parts, reversed(range(12)), strict=True):
        own = metrics.errors([frames[index]], [said[index]])
        assert part["n_frames"] == 1
        assert part["force_mae_meV_per_A"] == pytest.approx(own["force_mae_meV_per_A"])
    assert found.n_units == {"test": 12}


def test_angles_count_by_the_force_that_turns():
    reference = np.array([[3.0, 0, 0], [0, 1.0, 0], [0, 0, 0], [0, 0, 2.0]])
    predicted = np.array([[1.0, 0, 0], [1.0, 0, 0], [5.0, 0, 0], [0, 0, 0]])
    assert metrics.mean_angle_deg(predicted, reference) == pytest.approx((3 * 0 + 1 * 90 + 2 * 90) / 6)
    assert metrics.mean_angle_deg(-reference, reference) == pytest.approx(180)
    assert metrics.mean_angle_deg(predicted, 0 * reference) == 0.0


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        error = np.abs(rng.normal(size=60))  # a mean of sqrt(2/pi) of an error in eV
        ones = np.ones(60)
        sums = np.column_stack([error, error**2, ones, error, error**2, ones])
        found = metrics.intervals(sums, trial)
        low, high = (found[f"force_mae_ci95_{end}_meV_per_A"] for end in ("low", "high"))
        hits += low < 1000 * np.sqrt(2 / np.pi) < high
    assert 0.88 < hits / 200 < 0.99
    assert metrics.intervals(sums, 3) == metrics.intervals(sums, 3)
    assert metrics.intervals(sums[:1], 3) == {}


def evaluated(folder: Path, frames: list[Atoms], said: list[Prediction]) -> tuple[Path, Path]:
    """Write what `evaluate` writes."""
    rows = [
        {"frame_id": f.info[fr.ID]} | metrics.errors([f], [p]) for f, p in zip(frames, said, strict=True)
    ]  # fmt: skip
    with (folder / "per_frame.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    residuals = metrics.Residuals.of(frames, said)
    stress = residuals.stress_eV_per_A3
    np.savez(
        folder / "forces.npz", predicted=residuals.predicted_eV_per_A, reference=residuals.reference_eV_per_A,
        stress_error_eV_per_A3=stress,
    )  # fmt: skip
    return folder / "per_frame.csv", folder / "forces.npz"


def test_parts_are_the_errors_of_their_frames_and_groups_are_drawn_whole(tmp_path):
    frames, said = made_up(0)
    files = evaluated(tmp_path, frames, said)
    exam = Examined(frames, ("start", "temperature_K"), "start", seed=1)
    splits = {"test": range(4), "some": [0, 2]}
    found = take_apart(exam, *files, splits)
    assert found.n_frames == {"test": 4, "some": 2}
    assert found.n_units == {"test": 4, "some": 2}
    assert take_apart(Examined(frames, ("start",), "start", 1), *files, splits).n_units == {"test": 2, "some": 1}
    assert take_apart(Examined(frames, (), "start", 1), *files, splits).n_units == {"test": 4, "some": 2}
    for split, rows in (("test", range(4)), ("some", (0, 2))):
        direct = metrics.errors([frames[i] for i in rows], [said[i] for i in rows])
        assert {key: found.splits[split][key] for key in direct} == pytest.approx(direct)
    hot = metrics.errors(frames[2:], said[2:])
    (row,) = [r for r in found.rows if (r["split"], r["by"], r["value"]) == ("test", "temperature_K", "600")]
    assert {key: row[key] for key in hot} == pytest.approx(hot)
    assert found.splits["test"]["force_mae_600K_meV_per_A"] == pytest.approx(hot["force_mae_meV_per_A"])
    assert "force_mae_600K_meV_per_A" not in found.splits["some"]
    with pytest.raises(StageFailed, match="is not of the frames of this test set"):
        take_apart(Examined(frames[:3], (), "start", 1), *files, splits)


@pytest.mark.parametrize("names", [["f0", "f1", "f2", "f3"], ["a"] * 4, [7, 7, 8, 8], ["=1", "=1", "", "\x1b"]])
def test_frames_are_told_by_their_place_whatever_they_are_called(tmp_path, names):
    frames, said = made_up(0)
    for frame, name in zip(frames, names, strict=True):
        frame.info[fr.ID] = name
    frames[1].symbols = ["Al" if symbol == "Cu" else "Cu" for symbol in frames[1].symbols]
    some = [frames[i] for i in (0, 2, 3)]
    _write_per_frame(tmp_path / "per_frame.csv", some, [said[i] for i in (0, 2, 3)], {"test": range(3)})
    residuals = metrics.Residuals.of(some, [said[i] for i in (0, 2, 3)])
    np.savez(tmp_path / "forces.npz", predicted=residuals.predicted_eV_per_A, reference=residuals.reference_eV_per_A)
    files = (tmp_path / "per_frame.csv", tmp_path / "forces.npz")
    exam = Examined(frames, (), "start", 1)
    assert read(frames, *files)[0] == [0, 2, 3]
    found = take_apart(exam, *files, {"all": [0, 2, 3], "last": [3]})
    assert found.n_frames == {"all": 3, "last": 1}
    assert found.splits["last"]["force_mae_meV_per_A"] == pytest.approx(
        metrics.errors([frames[3]], [said[3]])["force_mae_meV_per_A"]
    )
    worst_first = [one.frame for one in worst(exam, {"student": files})]
    own = {id(f): metrics.errors([f], [p])["force_mae_meV_per_A"] for f, p in zip(frames, said, strict=True)}
    assert [own[id(f)] for f in worst_first] == sorted((own[id(f)] for f in some), reverse=True)


# ---------------------------------------------------------------- no frame is dropped


class Fails(EMT):
    """EMT that can't do one frame: a failure, or a number that is none."""

    def __init__(self, positions: np.ndarray, how: str) -> None:
        super().__init__()
        self.bad, self.how = positions, how

    def calculate(self, atoms=None, *args):
        super().calculate(atoms, *args)
        if np.array_equal(atoms.positions, self.bad):
            if self.how == "raises":
                raise RuntimeError("did not converge")
            self.results["forces"] = self.results["forces"] * np.nan


class Drops(AsePotential):
    """A potential that leaves a frame out."""

    def compute(self, frames, *, stress=False):
        return super().compute(frames[:-1], stress=stress)


@pytest.mark.parametrize(("how", "words"), [("raises", "did not converge"), ("nan", "not finite")])
def test_a_frame_without_a_label_is_named_and_ends_it(how, words):
    frames = [label(cell(i), frame_id=f"f{i}") for i in range(5)]
    potential = AsePotential(Fails(frames[3].positions, how), "picky")
    assert len(predict(potential, frames[:3], 2)) == 3
    with pytest.raises(StageFailed, match=rf"picky: no label for frame f3 .*{words}.*all frames count"):
        predict(potential, frames, 2)


def test_a_frame_that_is_left_out_ends_it():
    with pytest.raises(StageFailed, match="1 labels for 2 frames; all frames count"):
        predict(Drops(EMT(), "sloppy"), [label(cell(i)) for i in range(4)], 2)


def test_a_failed_evaluation_leaves_no_finished_stage(tmp_path):
    frames = [label(cell(i), frame_id=f"f{i}") for i in range(3)]
    frames[1].symbols[0] = "Fe"  # EMT knows no iron
    fr.write_frames(tmp_path / "test.extxyz", frames)
    with pytest.raises(StageFailed, match="no label for frame f1"):
        Workspace(tmp_path / "run", EventBus([])).do(
            evaluate, model=EMT_MODEL, exam=inputs.Exam(tmp_path / "test.extxyz", None, batch_size=2), align=None
        )
    assert not (tmp_path / "run/evaluate").exists()


# ---------------------------------------------------------------- speed and memory


@pytest.mark.slow
def test_memory_grows_with_what_a_model_holds(tmp_path):
    (tmp_path / "greedy_q5.py").write_text(
        "import numpy as np\nfrom ase.calculators.emt import EMT\n"
        "class Greedy(EMT):\n    def calculate(self, atoms=None, *args):\n"
        "        kept = np.ones((len(atoms), 2**18))\n        super().calculate(atoms, *args)\n"
    )  # 2 MiB an atom
    cells = [cell(0), cell(0) * (4, 2, 1)]
    found = on_cpu(Model(Calculator({"python": "greedy_q5:Greedy"})), cells, tmp_path)
    assert list(found) == [4, 32]
    assert found[32] - found[4] == pytest.approx(56, abs=20)

    fr.write_frames(tmp_path / "starts.extxyz", [cell(0, 0.01)])
    settings = Evaluate(speed_supercell=(2, 1, 1), speed_supercells=(), speed_steps=1, speed_memory=True)
    far = Model(Calculator({**EMT_ENTRY, "interpreter": sys.executable}))
    done = Workspace(tmp_path / "run", EventBus([])).do(
        speed, settings, models={"emt": EMT_MODEL, "far": far}, starts=tmp_path / "starts.extxyz"
    )
    assert done.peak_memory_MiB["emt"] >= 0
    assert done.peak_memory_MiB["far"] is None
    assert table(done.sizes)[0]["n_atoms"] == "8"
