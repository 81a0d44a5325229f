"""From Python another user's recipe is refused as on the command line, unless it is trusted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from alloy import tiny_recipe, write_recipe
from strangers import of_another

from ipip_ext import Recipe, ablate, check, errors, load_recipe, run

FACTORY = """
from pathlib import Path
from ase.calculators.emt import EMT
Path(__file__).with_name("ran").touch()
def make():
    return EMT()
"""
OWN = {"python": "beside:make"}


@pytest.fixture(autouse=True)
def here(tmp_path, alloy_data, monkeypatch):
    """A folder of another user, with a recipe whose teacher is code beside it."""
    monkeypatch.chdir(tmp_path)
    Path("beside.py").write_text(FACTORY)
    write_recipe(tmp_path, alloy_data, teacher=OWN, tracking__enabled=False)
    yield
    sys.modules.pop("beside", None)


def test_a_stranger_s_recipe_is_refused(monkeypatch, alloy_data):
    keys = tiny_recipe(alloy_data, teacher=OWN)
    of_another(monkeypatch)
    calls = [
        lambda: check("recipe.yaml"),
        lambda: check(load_recipe("recipe.yaml")),
        lambda: run(Path("recipe.yaml")),
        lambda: ablate("recipe.yaml", {"finetune.lr": [0.001, 0.002]}),
        lambda: check(Recipe(**keys)),  # the module would come from a folder of theirs
    ]
    for call in calls:
        with pytest.raises(errors.RecipeError, match=r"belongs to .*it can run code: teacher: runs beside:make"):
            call()
    assert not Path("ran").exists()
    assert not Path("runs").exists()


def test_one_s_own_and_a_trusted_one_are_not(monkeypatch):
    plan = check("recipe.yaml", progress=False)
    assert "2 iterations" in str(plan)
    Path("ran").unlink()
    sys.modules.pop("beside")
    of_another(monkeypatch)
    assert check("recipe.yaml", progress=False, trust_models=True).lines[1].startswith("teacher   python:make")
    assert Path("ran").exists()


def test_pickled_models_are_told_of(finished_run, caplog):
    model = finished_run / "runs/tiny/model/student.model"
    baselines = [{"kind": "calculator", "name": name, "calculator": {"mace": str(model)}} for name in ("one", "two")]
    assert check(load_recipe("recipe.yaml", baselines=baselines), progress=False).lines
    told = [record.getMessage() for record in caplog.records if record.name == "ipip_ext.api"]
    expected = [f"baselines.{index}.calculator: unpickles {model}" for index in (0, 1)]
    assert [line.split(" (SHA-256 ")[0] for line in told] == expected
