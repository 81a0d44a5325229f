"""Labels are believed only after they were held against the teacher's, and a weight only where it meets a label."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from alloy import assert_refused, cell, write_recipe
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from click.testing import CliRunner
from spoilt import each, edit

from ipip_ext.check import planning, preflight
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run.events import read_events

Change = Callable[[Atoms], None]


def times(key: str, factor: float) -> Change:
    def change(frame: Atoms) -> None:
        holder = frame.info if key in frame.info else frame.arrays
        holder[key] = holder[key] * factor

    return change


def rows(frame: Atoms) -> None:
    frame.arrays[fr.FORCES] = frame.arrays[fr.FORCES][[2, 3, 0, 1]]


def per_atom(frame: Atoms) -> None:
    frame.info[fr.ENERGY] /= len(frame)


def equal(frame: Atoms) -> None:
    frame.info[fr.ENERGY] = -3.0


def in_bohr(frame: Atoms) -> None:
    frame.set_cell(frame.cell / 0.529177, scale_atoms=True)


def noisy(frame: Atoms) -> None:
    frame.arrays[fr.FORCES] = np.random.default_rng(len(frame.info)).normal(0, 1, (len(frame), 3))


def spoil(change: Change, *files: str) -> None:
    for name in files or ("train", "test"):
        edit(f"data/{name}.extxyz", each(change))


def checked() -> tuple[list[str], list[str]]:
    """Return the lines of the plan, and its warnings."""
    recipe = load_recipe(Path("recipe.yaml"))
    plan = planning.plan(recipe, *preflight.check(recipe))
    return plan.lines, list(plan.cautions)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (times(fr.FORCES, -1.0), ("train.extxyz: forces are -1", "gradients? Change their sign")),
        (times(fr.FORCES, 23.06 / 20), ()),
        (times(fr.ENERGY, -1.0), ("train.extxyz: energies are -1", "change their sign")),
        (per_atom, ("train.extxyz: energies are 0.25", "energies per atom. Give those of the whole cell")),
        (equal, ("test.extxyz: all energies are equal (-3 eV); were they written?",)),
        (in_bohr, ("test.extxyz: the nearest atoms are", "positions and cell in bohr? Multiply them by 0.529177")),
        (rows, ("train.extxyz: forces are what python:EMT gives for the same atoms in another order",)),
    ],
)
def test_labels_that_can_not_be(task, command, change, words):
    spoil(change)
    if words:
        assert_refused(words, command, "recipe.yaml")
    else:
        assert not checked()[1]


def test_one_file_of_gradients(task, command):
    spoil(times(fr.FORCES, -1.0), "test")
    assert_refused(("test.extxyz: forces are -1", "Change their sign"), command, "recipe.yaml")


def test_labels_that_may_be_wrong_are_warned_of(task):
    _, none = checked()
    assert none == []
    spoil(times(fr.FORCES, 0.529177))
    _, warnings = checked()
    assert [said.split(":")[0] for said in warnings] == ["train.extxyz", "test.extxyz"]
    assert "forces are 0.5" in warnings[0]
    assert warnings[0].endswith("(correlation 1.00); is that the teacher's error, or another unit, eV/bohr?")


def test_forces_of_other_structures_are_warned_of(task):
    spoil(noisy, "train")
    _, warnings = checked()
    (said,) = [said for said in warnings if "hardly agree" in said]
    assert said.startswith("train.extxyz: forces hardly agree with what python:EMT gives (correlation ")


def test_energies_of_a_poor_teacher_are_no_other_sign(task):
    """A network that nobody has trained may fall where labels rise, by any factor."""
    spoil(times(fr.ENERGY, -40.0))
    _, warnings = checked()
    said = [said for said in warnings if said.endswith("they rise where the teacher's fall.")]
    assert said[0].startswith("train.extxyz: energies are -4")


def test_check_tells_what_it_read(task):
    lines, _ = checked()
    told = {line[:10].strip(): line[10:] for line in lines}
    assert told["train"].startswith("energies ")
    assert "|F| up to" in told["test"]
    assert "nearest atoms" in told["valid"]
    assert told["on train"].startswith("teacher: force MAE ")
    assert "slope 1.0" in told["on train"]
    assert "correlation 1.00 on 12 frames, energies: slope 1.0" in told["on train"]


@pytest.mark.slow
def test_what_was_found_stands_in_the_run_and_in_its_report(task):
    def one(frames: list[Atoms]) -> list[Atoms]:
        frames[5].info[fr.ENERGY] += 40.0
        return frames

    edit("data/train.extxyz", one)
    write_recipe(task, Path("data"), iterations=1, baselines=[{"kind": "teacher"}], tracking__enabled=False)
    done = CliRunner().invoke(main, ["run", "recipe.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    said = "train.extxyz: energies of frame 5 (train-00005) stand out"
    (finding,) = json.loads(Path("runs/tiny/findings.json").read_text())
    assert finding.startswith(said)
    events = list(read_events(Path("runs/tiny/events.jsonl")))
    assert f"warning: {finding}" in [event.name for event in events if event.kind == "note"]
    assert f"warning: {finding}" in Path("runs/tiny/compare.txt").read_text()
    assert said in Path("runs/tiny/report.html").read_text()
    again = CliRunner().invoke(main, ["run", "recipe.yaml"], catch_exceptions=False)
    assert f"warning: {finding}" in again.output


# ---------------------------------------------------------------- stress


def with_stress(sign: float = 1.0, key: str = "REF_stress") -> Change:
    def change(frame: Atoms) -> None:
        atoms = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True, calculator=EMT())
        frame.info[key] = sign * atoms.get_stress(voigt=False)

    return change


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (-1.0, ("train.extxyz: stress is -1 times", "opposite sign, as VASP writes it. Give eV/A^3")),
        (160.22, ("train.extxyz: stress is 160 times", "another unit, GPa")),
        (1602.2, ("train.extxyz: stress is 1.6e+03 times", "another unit, kbar")),
        (-1602.2, ("train.extxyz: stress is -1.6e+03 times", "opposite sign, as VASP writes it, and is in kbar")),
        (-54.872, ("train.extxyz: stress is -54.9 times", "these are virials. Name them by data.virials_key")),
    ],
)
def test_stress_of_another_sign_or_unit(task, factor, words):
    spoil(with_stress(factor))
    write_recipe(task, Path("data"), data__stress_key="REF_stress")
    assert_refused(words, "check", "recipe.yaml")


def test_virials_are_read_as_stress(task):
    spoil(with_stress())
    spoil(with_stress(-(3.8**3), "dft_virial"))
    whole = {"finetune__stress_weight": 1.0}
    write_recipe(task, Path("data"), data__stress_key="REF_stress", **whole)
    by_stress = preflight.check(load_recipe(Path("recipe.yaml")))[0]
    write_recipe(task, Path("data"), data__virials_key="dft_virial", **whole)
    by_virials = preflight.check(load_recipe(Path("recipe.yaml")))[0]
    for one, other in zip(by_stress.train, by_virials.train, strict=True):
        assert other.info[fr.STRESS] == pytest.approx(one.info[fr.STRESS], abs=1e-9)
    assert "stress up to" in by_virials.told["train"]
    assert by_virials.findings == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"finetune__stress_weight": 1.0}, ("finetune.stress_weight is 1, but no stress is read", "data.virials_key")),
        ({"baselines": [{"kind": "teacher"}, {"kind": "scratch", "fit": {"stress_weight": 2}}]},
         ("baselines.1.fit.stress_weight is 2",)),
        ({"pretrain__stress_weight": 1.0}, ("pretrain.stress_weight is 1", "unless explore.ensemble is npt")),
        ({"data__stress_key": "a", "data__virials_key": "b"}, ("stress_key and virials_key would both",)),
        ({"data__virials_key": "virial"}, ("no frame has virial", "Set data.virials_key")),
    ],
)  # fmt: skip
def test_a_weight_that_meets_no_label(task, command, changes, words):
    write_recipe(task, Path("data"), **changes)
    assert_refused(words, command, "recipe.yaml")


# ---------------------------------------------------------------- atoms by themselves, and cells of one atom


def lone(symbol: str, energy_eV: float, **info: object) -> Atoms:
    return Atoms(symbol, info={fr.ENERGY: energy_eV, **info})


def test_isolated_atoms_need_no_forces_and_are_not_trained_on(task):
    boxed = lone("Al", -1.9)
    boxed.cell, boxed.pbc = [12.0] * 3, True
    frames = [lone("Cu", -1.1, config_type="IsolatedAtom"), boxed, *fr.read_frames(Path("data/train.extxyz"))]
    fr.write_frames(Path("data/train.extxyz"), frames)
    write_recipe(task, Path("data"), data__e0s="isolated_atoms")
    data, _ = preflight.check(load_recipe(Path("recipe.yaml")))
    assert data.e0s_eV == {"Al": -1.9, "Cu": -1.1}
    assert (len(data.train) + len(data.valid), data.n_isolated) == (16, 2)
    assert data.told["isolated"] == "2 atoms of train that stand by themselves are not trained on"


def test_isolated_atoms_of_a_file_of_their_own(task, command):
    fr.write_frames(Path("data/atoms.extxyz"), [lone("Cu", -1.1), lone("Al", -1.9)])
    own = {"data__e0s": "isolated_atoms", "data__isolated_atoms": "data/atoms.extxyz"}
    write_recipe(task, Path("data"), **own)
    data, _ = preflight.check(load_recipe(Path("recipe.yaml")))
    assert data.e0s_eV == {"Al": -1.9, "Cu": -1.1}
    fr.write_frames(Path("data/atoms.extxyz"), [lone("Cu", -1.1)])
    assert_refused(("atoms.extxyz: isolated atoms have no energy for Al",), command, "recipe.yaml")
    write_recipe(task, Path("data"), data__e0s="isolated_atoms", data__isolated_atoms="data/starts.extxyz")
    edit("data/starts.extxyz", each(lambda frame: frame.info.update({fr.ENERGY: 1.0})))
    assert_refused(("starts.extxyz: no frame has REF_forces",), command, "recipe.yaml")


def test_cells_of_one_atom_are_frames_like_others(task):
    def strained(seed: int) -> Atoms:
        atoms = bulk("Cu", a=3.8 + 0.01 * seed)
        atoms.set_cell(atoms.cell.array + np.random.default_rng(seed).normal(0, 0.05, (3, 3)), scale_atoms=True)
        atoms.calc = EMT(asap_cutoff=True)
        frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        frame.info[fr.ENERGY], frame.arrays[fr.FORCES] = atoms.get_potential_energy(), atoms.get_forces()
        return frame

    fr.write_frames(Path("data/train.extxyz"), [strained(i) for i in range(12)])
    fr.write_frames(Path("data/test.extxyz"), [strained(100 + i) for i in range(4)])
    fr.write_frames(Path("data/starts.extxyz"), [bulk("Cu", a=3.8).repeat(2)])
    lines, warnings = checked()
    assert lines[0].startswith("data      9 train, 3 valid, 4 test frames; Cu; 1 starts")
    assert warnings == []


# ---------------------------------------------------------------- files that lack some labels


def test_energies_alone_are_evaluated(here):
    frames = [cell(i) for i in range(5)]
    emt = []
    for index, frame in enumerate(frames):
        frame.calc = EMT()
        emt.append(frame.get_potential_energy() / 4)
        frame.calc = None
        frame.info[fr.ENERGY] = 4 * (emt[-1] - 7.0 + 0.001 * index)
    fr.write_frames(Path("scan.extxyz"), frames)
    call = ["evaluate", "{python: 'ase.calculators.emt:EMT'}", "scan.extxyz"]
    done = CliRunner().invoke(main, [*call, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines() == ["no forces in the file: energies alone are compared"]
    found = json.loads(done.stdout)
    assert found["energy_mae_meV_per_atom"] == pytest.approx(6998.0, abs=1e-3)
    assert found["relative_energy_mae_meV_per_atom"] == pytest.approx(1.2, abs=1e-3)  # of -2 to 2
    assert not [key for key in found if key.startswith("force")]
    frames[1].arrays[fr.FORCES] = np.ones((4, 3))
    fr.write_frames(Path("scan.extxyz"), frames)
    done = CliRunner().invoke(main, call, catch_exceptions=False)
    assert "4 of 5 frames have no forces; they count for their energies" in done.stderr
    assert "force_mae" in done.stdout
    assert_refused(("no frame has nothing", "Set --energy-key"), *call, "--energy-key", "nothing", "--forces-key", "x")
