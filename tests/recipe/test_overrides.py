"""`--set` reaches any key, in lists too."""

from __future__ import annotations

import pytest
from alloy import assert_refused, write_recipe

from ipip_ext.recipe.file import dump_recipe, load_recipe


@pytest.fixture
def path(tmp_path, alloy_data):
    return write_recipe(tmp_path, alloy_data)


@pytest.mark.parametrize("key", ["baselines.1.fit.epochs", "baselines.scratch.fit.epochs"])
def test_into_a_list_by_index_or_name(path, key):
    recipe = load_recipe(path, [f"{key}=12"])
    assert [baseline.kind for baseline in recipe.baselines] == ["teacher", "scratch"]
    assert recipe.baselines[1].fit.epochs == 12
    assert load_recipe(path).baselines[1].fit.epochs == 3


def test_by_a_name_of_its_own(path):
    baselines = "baselines=[{kind: calculator, name: other, calculator: chgnet}, {kind: finetuned, mace: small}]"
    recipe = load_recipe(path, [baselines, "baselines.other.calculator=xtb", "baselines.finetuned.fit.lr=0.5"])
    assert (recipe.baselines[0].calculator, recipe.baselines[1].fit.lr) == ("xtb", 0.5)


def test_values_of_plain_and_nested_lists(path):
    changes = ["explore.temperatures_K=[300, [300, 900]]", "explore.temperatures_K.1.0=500", "student.radial_MLP.0=16"]
    recipe = load_recipe(path, [*changes, "evaluate.speed_supercell.2=1", "baselines.0={kind: distilled}"])
    assert recipe.explore.temperatures_K == (300.0, (500.0, 900.0))
    assert recipe.student.radial_MLP == (16,)
    assert recipe.evaluate.speed_supercell == (2, 2, 1)
    assert [baseline.kind for baseline in recipe.baselines] == ["distilled", "scratch"]


def test_a_list_that_the_recipe_does_not_hold_begins_at_its_default(tmp_path, alloy_data):
    path = write_recipe(tmp_path, alloy_data)
    kept = [line for line in path.read_text().split("\n- kind")[0].splitlines() if line != "baselines:"]
    path.write_text("\n".join(kept))
    recipe = load_recipe(
        path, ["baselines.scratch.fit.epochs=7", "explore.temperatures_K=[500, 600]", "explore.temperatures_K.0=450"]
    )
    assert [baseline.kind for baseline in recipe.baselines] == ["teacher", "scratch"]
    assert (recipe.baselines[1].fit.epochs, recipe.baselines[1].fit.patience) == (7, 50)
    assert recipe.explore.temperatures_K == (450, 600)


def test_a_section_that_is_null_begins_at_its_defaults(path):
    whole = path.with_name("whole.yaml")
    whole.write_text(dump_recipe(load_recipe(path)))
    assert "\nadapt: null\n" in whole.read_text()
    recipe = load_recipe(whole, ["adapt.epochs=3", "evaluate.stability.time_ps=1"])
    assert (recipe.adapt.epochs, recipe.adapt.lr, recipe.evaluate.stability.time_ps) == (3, 0.003, 1.0)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("baselines.2.fit.epochs=1", ("--set baselines.2.fit.epochs=1: the list has no entry 2", "scratch")),
        ("baselines.scrath.fit.epochs=1", ("the list has no entry scrath", "Did you mean scratch?")),
        ("baselines.-1.fit.epochs=1", ("the list has no entry -1",)),
        ("baselines." + "9" * 5000 + "=1", ("the list has no entry 999",)),
        ("data.split_keys.0=x", ("the list has no entry 0. It is empty.",)),
        ("baselines.scratch.fit.epoch=1", ("baselines.1.fit.epoch is unknown", "Did you mean epochs?")),
        ("baselines.scratch.kind.x=1", ("kind is not a section",)),
        ("explore.temperatures_K.0.1=1", ("0 is not a section",)),
        ("name.x=1", ("--set name.x=1: name is not a section",)),
    ],
)
def test_what_is_not_there_is_refused(path, monkeypatch, override, words):
    monkeypatch.chdir(path.parent)
    assert_refused(words, "check", "recipe.yaml", "--set", override)
