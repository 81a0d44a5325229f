"""What a run does last is tried before it begins: it can't fail after hours for what was known at the start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloy import assert_refused, label, write_recipe
from ase.build import molecule
from click.testing import CliRunner

from ipip_ext import md
from ipip_ext.check import rehearsal
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr

SMALL_ONLY = """
from ase.calculators.emt import EMT

class SmallOnly(EMT):
    def calculate(self, atoms=None, *args):
        if len(atoms) > 20:
            raise ValueError("too many atoms for me")
        super().calculate(atoms, *args)
"""


def checked(*sets: str) -> tuple[str, str]:
    """Return stdout and stderr of a check that finds all in order."""
    arguments = ["check", "recipe.yaml", *(part for one in sets for part in ("--set", one))]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_teacher_that_cannot_be_timed_is_refused(command, tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small_only_q7.py").write_text(SMALL_ONLY)
    write_recipe(tmp_path, alloy_data, teacher={"python": "small_only_q7:SmallOnly"})
    words = ("recipe.yaml: evaluate.speed_supercell: forces on", "(32 atoms) by the teacher fails", "too many atoms")
    assert_refused(words, command, "recipe.yaml")
    checked("evaluate.speed_supercell=[1,1,1]")
    checked("baselines=[]")  # then it is not timed


def test_a_student_that_cannot_be_timed_is_refused(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data)

    def fails(atoms):
        raise MemoryError(f"no room for {len(atoms)}")

    monkeypatch.setattr(rehearsal.md, "stepper", fails)
    assert_refused(("(64 atoms) by the student fails", "no room for 64"), "check", "recipe.yaml")


@pytest.mark.parametrize("what", ["rdf", "strain"])
def test_a_start_that_cannot_be_measured_is_refused(what, tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data, evaluate__properties={"time_ps": 0.1, "skip_ps": 0.02})

    def fails(*_: object):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(rehearsal.sf, what, fails)
    assert_refused(("start s0: a measurement of evaluate.properties fails", "Singular"), "check", "recipe.yaml")


def test_a_frame_that_cannot_be_drawn_is_refused(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data)

    def fails(*_: object):
        raise ZeroDivisionError("nothing to see")

    monkeypatch.setattr(rehearsal.structures, "draw", fails)
    assert_refused(("test.extxyz: frame 0: its picture in the report fails", "nothing to see"), "check", "recipe.yaml")


def test_the_plan_says_what_is_timed(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data)
    said, _ = checked()
    assert "speed     NVE step of Al8Cu24 (32 atoms), and cells of 4 and 64 atoms" in said
    assert "(timing)" in said
    said, _ = checked("evaluate.speed_supercell=null", "evaluate.speed_supercells=[]")
    assert "speed     NVE step of Al27Cu81 (108 atoms)\n" in said


# ---------------------------------------------------------------- steps too long for hydrogen


def water(seed: int, amplitude_A: float = 0.05):
    atoms = molecule("H2O")
    atoms.rattle(amplitude_A, rng=np.random.default_rng(seed))
    return atoms


def test_a_step_of_1_fs_is_too_long_for_hydrogen_alone():
    assert "steps of 1 fs with hydrogen" in md.too_long(1.0, [water(0)])
    assert md.too_long(0.5, [water(0)]) == ""
    assert md.too_long(2.0, [molecule("CO2")]) == ""
    heavy = water(0)
    heavy.set_masses([16.0, 2.014, 2.014])
    assert md.too_long(1.0, [heavy]) == ""


def test_check_warns_of_steps_too_long_for_hydrogen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fr.write_frames(Path("train.extxyz"), [label(water(i)) for i in range(8)])
    fr.write_frames(Path("test.extxyz"), [label(water(20 + i)) for i in range(3)])
    fr.write_frames(Path("starts.extxyz"), [water(30, 0.01)])
    write_recipe(tmp_path, Path(), data__ood=None)
    _, warned = checked("explore.timestep_fs=1", "explore.temperatures_K=[300]")
    assert "warning: " in warned
    assert "explore: steps of 1 fs with hydrogen" in warned
    _, warned = checked("explore.timestep_fs=0.5")
    assert "hydrogen" not in warned
