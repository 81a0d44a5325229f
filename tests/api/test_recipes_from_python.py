"""Recipes from a file with keywords, from keywords alone, and a new one to begin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from alloy import tiny_recipe, write_recipe

from ipip_ext import Recipe, load_recipe, recipe_reference, recipe_schema, write_starter
from ipip_ext.errors import RecipeError, UserError
from ipip_ext.recipe.data import Data
from ipip_ext.recipe.file import dump_recipe
from ipip_ext.recipe.training import Finetune


def test_keywords_reach_any_key_of_a_file(tmp_path, alloy_data):
    path = write_recipe(tmp_path, alloy_data)
    recipe = load_recipe(
        str(path), "finetune.epochs=7", seed=9, finetune__lr=2e-5, sample=None, forget__groups=("readouts",),
        teacher={"python": "ase.calculators.emt:EMT", "kwargs": {"asap_cutoff": True}}, name="no",
        explore__temperatures_K=np.array([300.0, 600.0]), data__valid=Path("other.extxyz"),
        evaluate={"speed_steps": np.int64(3)}, baselines__scratch__fit__epochs=11, data__energy_key="0o10",
    )  # fmt: skip
    assert (recipe.seed, recipe.name, recipe.sample, recipe.forget.groups) == (9, "no", None, ("readouts",))
    assert (recipe.finetune.lr, recipe.finetune.epochs, recipe.finetune.batch_size) == (2e-5, 7, 8)
    assert recipe.teacher["kwargs"] == {"asap_cutoff": True}
    assert recipe.explore.temperatures_K == (300.0, 600.0)
    assert recipe.data.valid == (tmp_path / "other.extxyz").resolve()  # relative to the recipe, as in the file
    assert (recipe.baselines[1].fit.epochs, recipe.data.energy_key) == (11, "0o10")  # a word stays a word
    assert (recipe.evaluate.speed_steps, recipe.evaluate.speed_supercell) != (2, (2, 2, 2))  # a section as a whole


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"finetune__lrr": 1}, ("finetune.lrr is unknown", "Did you mean lr")),
        ({"finetune__lr": -1.0}, ("finetune.lr", "greater than 0")),
        ({"seed": object()}, ("seed: object can't stand in a recipe",)),
        ({"name__x": 1}, ("name is not a section",)),
    ],
)
def test_a_wrong_keyword_is_named(tmp_path, alloy_data, overrides, words):
    path = write_recipe(tmp_path, alloy_data)
    with pytest.raises(RecipeError) as refused:
        load_recipe(path, **overrides)
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_recipe_of_keywords_is_the_recipe_of_a_file(tmp_path, monkeypatch):
    """Its paths count from the working directory, wherever that is when it is run."""
    monkeypatch.chdir(tmp_path)
    keys = tiny_recipe(Path("data"))
    path = write_recipe(tmp_path, Path("data"))
    made, read = Recipe(**keys), load_recipe(path)
    monkeypatch.chdir("/")
    assert dump_recipe(made) == dump_recipe(read)
    assert made.data.train == tmp_path / "data/train.extxyz"
    assert (made.folder, made.file) == (tmp_path, "Recipe(...)")
    assert (made.model_copy(update={"seed": 4}).folder, Recipe.model_validate(made)) == (tmp_path, made)
    sections = {**keys, "data": Data(**keys["data"]), "finetune": Finetune(**keys["finetune"])}
    monkeypatch.chdir(tmp_path)
    assert dump_recipe(Recipe(**sections)) == dump_recipe(read)
    assert dump_recipe(Recipe(**{**sections, "student": read.student, "baselines": read.baselines})) == dump_recipe(
        read
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nam": 1}, ("Recipe(...): nam is unknown", "Did you mean name")),
        ({"student": {"hidden": "4x0e"}}, ("Recipe(...): student: hidden is unknown",)),
        ({"student": 3}, ("student: must be a section",)),
        ({"student": {"backend": "gap"}}, ("gap",)),
        ({"finetune": {"lr": -1}}, ("finetune.lr: must be greater than 0, not -1",)),
        ({"teacher": 7}, ("teacher",)),
        ({"explore": {}}, ("explore.starts is missing",)),
        ({"name": "x" * 2000}, ("name: holds a NUL or more than 1000",)),
        ({"correct": {"form": "angular"}, "adapt": {}}, ("adapt and correct.form",)),
    ],
)
def test_wrong_keywords_are_told_in_one_line(changes, words):
    with pytest.raises(RecipeError) as refused:
        Recipe(**{**tiny_recipe(Path("data")), **changes})
    assert all(word in str(refused.value) for word in words), refused.value
    assert "\n" not in str(refused.value)


def test_what_stands_in_itself_is_refused():
    kwargs: dict = {}
    kwargs["again"] = kwargs
    with pytest.raises(RecipeError, match="nested too deeply"):
        Recipe(**{**tiny_recipe(Path("data")), "teacher": kwargs})


def test_a_recipe_to_begin_with(tmp_path):
    path = write_starter(tmp_path / "recipe.yaml")
    assert set(yaml.safe_load(path.read_text())) == set(Recipe.model_fields)
    with pytest.raises(UserError, match="is there already"):
        write_starter(path)
    with pytest.raises(UserError, match="its folder does not exist"):
        write_starter(str(tmp_path / "nowhere/recipe.yaml"))
    assert '"finetune"' in recipe_schema()
    assert recipe_reference().startswith("# Recipe reference")
