"""`sample` without starts is `explore` with some keys changed; with starts it is what it has been."""

from __future__ import annotations

import pytest
from alloy import tiny_recipe, write_recipe

from ipip_ext.errors import RecipeError
from ipip_ext.recipe.file import dump_recipe, load_recipe, parse_recipe
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.walk import Explore


@pytest.fixture
def path(tmp_path, alloy_data):
    return write_recipe(
        tmp_path, alloy_data, explore__guard={"check_every": 2, "restarts": 1}, explore__ensemble="nve",
        sample={"n_steps": 5, "guard": {"restarts": 3}},
    )  # fmt: skip


def test_what_is_not_given_is_as_in_explore(path):
    recipe = load_recipe(path)
    guard = recipe.explore.guard.model_copy(update={"restarts": 3})
    assert recipe.sample == recipe.explore.model_copy(update={"n_steps": 5, "guard": guard})
    assert (recipe.sample.temperatures_K, recipe.sample.frame_every, recipe.sample.ensemble) == ((600.0,), 5, "nve")
    assert load_recipe(path, ["sample={}"]).sample == recipe.explore
    assert load_recipe(path, ["sample=null"]).sample is None
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path).model_dump() == recipe.model_dump()


def test_a_section_with_starts_keeps_the_defaults_of_the_reference(path, alloy_data):
    starts = alloy_data / "starts.extxyz"
    recipe = load_recipe(path, [f"sample={{starts: {starts}, n_steps: 50}}"])
    assert recipe.sample == Explore(starts=starts, n_steps=50)


def test_from_python_too(alloy_data):
    raw = tiny_recipe(alloy_data)
    given = {**raw, "explore": Explore.model_validate(raw["explore"]), "sample": {"n_steps": 10}}
    assert Recipe(**given).sample == Recipe(**raw).explore.model_copy(update={"n_steps": 10})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sample={n_step: 5}", r"sample\.n_step is unknown\. Did you mean n_steps\?"),
        ("sample={n_steps: 3}", r"sample: frame_every is larger than n_steps"),
        ("sample={guard: {restart: 5}}", r"sample\.guard\.restart is unknown\. Did you mean restarts\?"),
        ("sample=5", r"sample: must be a section"),
        ("explore.n_steps=x", r"explore\.n_steps: must be a valid integer"),
    ],
)
def test_what_is_wrong_is_named_where_it_stands(path, override, words):
    with pytest.raises(RecipeError, match=words):
        load_recipe(path, [override])


def test_a_recipe_without_explore_says_so(tmp_path, alloy_data):
    raw = tiny_recipe(alloy_data, sample={"n_steps": 5})
    del raw["explore"]
    with pytest.raises(RecipeError, match="explore is missing"):
        parse_recipe(raw, where="here", root=tmp_path)
