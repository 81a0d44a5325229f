"""Recipes: strict, helpful, documented, and round-tripping."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from alloy import tiny_recipe, write_recipe

from ipip_ext.errors import RecipeError
from ipip_ext.recipe import reference
from ipip_ext.recipe.file import dump_recipe, json_schema, load_recipe
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.schema import Section

ROOT = Path(__file__).parents[2]
NOT_OURS = ("mlearn_mo",)
"""Recipes on data of others, which the user fetches."""


RECIPES = [path for path in sorted((ROOT / "recipes").rglob("*.yaml")) if path.parent.name != "places"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_round_trip(path, tmp_path):
    recipe = load_recipe(path)
    if path.stem not in NOT_OURS:
        assert recipe.data.train.is_file()
        assert recipe.explore.starts.is_file()
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_recipe(recipe))
    assert load_recipe(copy).model_dump() == recipe.model_dump()


def test_the_full_recipe_holds_every_key_with_a_comment():
    text = (ROOT / "recipes" / "mo_s_o.yaml").read_text()
    recipe = load_recipe(ROOT / "recipes" / "mo_s_o.yaml")
    raw = yaml.safe_load(text)
    for section, value in recipe.model_dump(mode="json").items():
        assert section in raw
        if isinstance(value, dict) and isinstance(raw[section], dict):
            assert set(value) == set(raw[section]), section
    lines = text.splitlines()
    for index, line in enumerate(lines):
        if line and not line.lstrip().startswith(("#", "-")) and index:
            assert lines[index - 1].lstrip().startswith(("#", "-")) or "#" in line, line


def test_the_reference_page_is_made_from_the_models():
    assert (ROOT / "docs" / "recipe.md").read_text() == reference.reference()


def test_every_field_is_documented():
    def sections(model: type[Section]) -> set[type[Section]]:
        inner = {m for f in model.model_fields.values() for m in reference._section_of(f)} - {model}
        return {model}.union(*(sections(m) for m in inner))

    for model in sections(Recipe):
        assert model.__doc__
        for key, field in model.model_fields.items():
            if key not in ("kind", "backend"):
                assert field.description, f"{model.__name__}.{key}"


def test_paths_are_relative_to_the_recipe(tmp_path, alloy_data, monkeypatch):
    raw = tiny_recipe(Path("data"))
    raw["evaluate"] = {"properties": {"strained": "data/train.extxyz", "trajectory": "data/test.extxyz"}}
    folder = tmp_path / "somewhere"
    folder.mkdir()
    (folder / "data").symlink_to(alloy_data)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir("/")
    recipe = load_recipe(folder / "recipe.yaml")
    assert recipe.data.train.samefile(alloy_data / "train.extxyz")
    assert recipe.explore.starts.is_absolute()
    assert recipe.evaluate.properties.strained.samefile(alloy_data / "train.extxyz")
    assert recipe.evaluate.properties.trajectory.samefile(alloy_data / "test.extxyz")


def test_overrides_reach_any_key(tmp_path, alloy_data):
    path = write_recipe(tmp_path, alloy_data)
    recipe = load_recipe(path, ["finetune.lr=0.002", "forget.groups=[readouts]", "sample=null", "seed=9"])
    assert (recipe.finetune.lr, recipe.forget.groups, recipe.seed) == (0.002, ("readouts",), 9)
    with pytest.raises(RecipeError, match="key=value"):
        load_recipe(path, ["finetune.lr"])
    with pytest.raises(RecipeError, match="Did you mean lr"):
        load_recipe(path, ["finetune.lrr=1"])


def test_the_schema_is_json_and_knows_the_student():
    schema = json.loads(json_schema())
    assert schema["properties"]["student"]["anyOf"][0]["properties"]["hidden_irreps"]
    assert schema["properties"]["name"]["description"]


def test_recipes_are_frozen(tmp_path, alloy_data):
    recipe = load_recipe(write_recipe(tmp_path, alloy_data))
    with pytest.raises(Exception, match="frozen"):
        recipe.seed = 4


def test_a_key_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "twice.yaml").write_text("name: a\nseed: 1\nseed: 2\n")
    with pytest.raises(RecipeError, match=r"twice\.yaml: line 3:.*seed stands twice"):
        load_recipe(tmp_path / "twice.yaml")
