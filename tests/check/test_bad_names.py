"""Teachers, baselines and other names: what is wrong is refused in one line that names it, its place and its remedy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from alloy import assert_refused, write_recipe
from spoilt import edit, swap

FACTORIES = """
raise_here = 3
def broken():
    raise RuntimeError("no weights\\n  in the cupboard")
def other():
    return 7
"""


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("chgnett", ("chgnett", "unknown", "Did you mean chgnet?")),
        ("mace", ("mace", "needs a value", "{mace: ")),
        ({"xtb": "GFN1", "mace": "medium"}, ("one kind",)),
        ({"xtb": "GFN1-xTBB"}, ("GFN1-xTBB", "Did you mean GFN1-xTB?")),
        ({"chgnet": "0.4.0"}, ("0.4.0", "neither a file nor a model's name")),
        ({"mace": "nowhere.model"}, ("nowhere.model", "no such file")),
        ({"mace": "data/train.extxyz"}, ("train.extxyz", "can't be read as a model", "MACE saved")),
        ({"mace": "smalll"}, ("smalll", "Did you mean small?")),
        ({"python": "ase.calculators.emt"}, ("ase.calculators.emt", "module:factory")),
        ({"python": "ase.calculators.emtt:EMT"}, ("no module named ase.calculators.emtt",)),
        ({"python": "ase.calculators.emt:EMTT"}, ("no factory EMTT", "Did you mean EMT?")),
        ({"python": "factories:broken"}, ("factories:broken()", "no weights in the cupboard")),
        ({"python": "factories:other"}, ("factories:other", "returned int", "ASE calculator")),
        ({"python": "factories:raise_here"}, ("no factory raise_here",)),
        ({"python": "halves:make"}, ("importing halves failed", "SyntaxError")),
        ({"python": "ase.calculators.emt:EMT", "kwargs": [1]}, ("kwargs must be a section",)),
        ({"python": "factories:broken", "kwargs": {"cutof": 1}}, ("broken(cutof=1) failed", "TypeError")),
    ],
)
def test_a_teacher_that_cannot_be_made(task, command, teacher, words):
    Path("factories.py").write_text(FACTORIES)
    Path("halves.py").write_text("def make(:\n")
    write_recipe(task, Path("data"), teacher=teacher)
    assert_refused(("recipe.yaml: teacher: ", *words), command, "recipe.yaml")


@pytest.mark.parametrize(("kind", "module"), [("chgnet", "chgnet"), ("xtb", "tblite")])
def test_a_teacher_whose_package_is_missing(task, command, kind, module, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == module else found(name, *a))
    write_recipe(task, Path("data"), teacher=kind)
    assert_refused((module, "not installed", f'pip install "ipip-mace[{kind}]"'), command, "recipe.yaml")


def test_a_teacher_that_does_not_know_an_element(task, command):
    edit("data/train.extxyz", lambda frames: [swap(frame, "Al", "Si") for frame in frames])
    edit("data/test.extxyz", lambda frames: [swap(frame, "Al", "Si") for frame in frames])
    edit("data/starts.extxyz", lambda frames: [swap(frame, "Al", "Si") for frame in frames])
    assert_refused(("train.extxyz", "frame train-0", "python:EMT", "Si", "another teacher"), command, "recipe.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"forget__groups": ["readout"]}, ("forget.groups", "readout", "Did you mean readouts?")),
        ({"baselines": [{"kind": "teacher"}, {"kind": "teacher"}]}, ("baselines", "teacher", "once")),
        ({"evaluate__speed_start": 7}, ("evaluate.speed_start", "7", "s0, s1")),
        ({"evaluate__speed_start": "s7"}, ("evaluate.speed_start", "s7", "s0, s1")),
    ],
)
def test_a_name_that_nothing_has(task, command, changes, words):
    write_recipe(task, Path("data"), **changes)
    assert_refused(("recipe.yaml: ", *words), command, "recipe.yaml")
