"""Numbers of a recipe lie in ranges that make sense; what hangs, overflows or teaches nothing is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from alloy import assert_refused, tiny_recipe, write_recipe

from ipip_ext.errors import RecipeError
from ipip_ext.recipe import reference, students
from ipip_ext.recipe.file import parse_recipe
from ipip_ext.recipe.forget import Forgetting
from ipip_ext.recipe.recipe import Recipe


def sections() -> set[type]:
    """Return every section that a recipe may have."""
    found, ahead = set(), [Recipe, *(students.config_class(name) for name in students.names())]
    while ahead:
        model = ahead.pop()
        if model not in found:
            found.add(model)
            ahead += [inner for field in model.model_fields.values() for inner in reference._section_of(field)]
    return found - {Forgetting}


def numbers(schema: dict) -> list[dict]:
    """Return the schemas of all numbers that a key may hold, in lists and by name too."""
    own = [schema] if schema.get("type") in ("integer", "number") else []
    inner = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("prefixItems", ())]
    inner += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    return [*own, *(found for one in inner for found in numbers(one))]


@pytest.mark.parametrize(
    "model", sorted(sections(), key=lambda model: model.__name__), ids=lambda model: model.__name__
)
def test_every_number_has_two_ends(model):
    schema = model.model_json_schema()
    for key, of_key in schema["properties"].items():
        for number in numbers(of_key):
            assert {"minimum", "exclusiveMinimum"} & number.keys(), key
            assert {"maximum", "exclusiveMaximum"} & number.keys(), key


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("student.hidden_irreps=100000x0e", ("student: hidden_irreps: ", "at most 1024 channels", "'100000x0e'")),
        ("student.hidden_irreps=" + "9" * 900 + "x0e", ("student: hidden_irreps: ", "at most 1024 channels")),
        ("student.hidden_irreps=8x0e+8x9o", ("student: hidden_irreps: ", "up to degree 4")),
        ("student.hidden_irreps=00x0e", ("student: hidden_irreps: ", "same number of channels")),
        ("student.MLP_irreps=100000x0e", ("student: MLP_irreps: ", "at most 1024 channels")),
        ("student.num_bessel=10000000", ("student: num_bessel: ", "less than or equal to 128", "not 10000000")),
        ("student.radial_MLP=[100000]", ("student: radial_MLP.0: ", "less than or equal to 1024")),
        ("student={max_ell: 3, correlation: 4}", ("student: max_ell 3 with correlation 4", "up to 9")),
        ("student.r_max_A=1e6", ("student: r_max_A: ", "less than or equal to 20")),
        ("iterations=1000000000000", ("iterations: ", "less than or equal to 1000")),
        ("threads=100000", ("threads: ", "less than or equal to 1024")),
        ("explore.timestep_fs=1e9", ("explore.timestep_fs: ", "less than or equal to 100")),
        ("explore.timestep_fs=1e-300", ("explore.timestep_fs: ", "at least 0.0001")),
        ("explore.n_steps=1e18", ("explore.n_steps: ", "less than or equal to 1000000000")),
        ("explore.temperatures_K=[300, [300, 1e9]]", ("explore.temperatures_K.1.1: ", "less than or equal to 100000")),
        ("finetune.epochs=1000000000", ("finetune.epochs: ", "less than or equal to 1000000")),
        ("select.max_gap_A=1000", ("select.max_gap_A: ", "less than or equal to 30")),
        ("correct={r_max_A: 500}", ("correct.r_max_A: ", "less than or equal to 12")),
        ("evaluate.speed_supercell=[100, 100, 100]", ("evaluate: speed_supercell holds 1000000 cells",)),
        ("evaluate.stability={time_ps: 1e6, timestep_fs: 0.001}", ("evaluate.stability: time_ps is", "at most 1")),
        ("finetune={force_weight: 0, energy_weight: 0}", ("finetune: ", "all 0", "nothing would be learnt")),
        ("pretrain.force_weight=0", ("pretrain: ", "all 0", "nothing would be learnt")),
        ("baselines.scratch.fit={force_weight: 0, energy_weight: 0}", ("baselines.1.fit: ", "all 0")),
        ("pretrain.source_weights={teacher: 0}", ("pretrain: source_weights.teacher is 0",)),
        ("forget={keep: 0, noise: 0}", ("forget: keep 0 with noise 0",)),
        ("forget={keep: [0.5, 0], noise: [1, 0]}", ("forget: keep 0 with noise 0",)),
        ("finetune.lr=true", ("finetune: lr must be no truth value",)),
        ("explore.temperatures_K=[true, 300]", ("explore: temperatures_K must be no truth value",)),
        ("committee.bootstrap=1", ("committee.bootstrap: must be true or false",)),
        ("seed=" + "1" * 90, ("seed: ", "less than or equal to 18446744073709551616")),
    ],
)  # fmt: skip
def test_a_number_without_sense_is_refused(tmp_path, alloy_data, monkeypatch, override, words):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data)
    assert_refused(("recipe.yaml: ", *words), "check", "recipe.yaml", "--set", override)


@pytest.mark.parametrize(
    "changes",
    [
        {"finetune": {"force_weight": 0}},
        {"pretrain": {"force_weight": 0, "energy_weight": 1}},
        {"forget": {"keep": 0, "noise": 0, "groups": []}},
        {"forget": {"keep": [0.5, 0], "noise": [0, 1]}},
        {"forget": {"groups": [["all"], []], "keep": [0.5, 0], "noise": 0}},
        {"pretrain": {"source_weights": {"self": 0}}},
        {"student": {"max_ell": 3, "correlation": 3}},
        {"student": {"max_ell": 4, "hidden_irreps": "1024x0e"}},
        {"explore": {"starts": "s.extxyz", "timestep_fs": 100, "temperatures_K": [[1, 100_000]]}},
        {"threads": None, "seed": 2**64, "evaluate": {"speed_supercell": [100, 100, 1]}},
    ],
)
def test_a_number_at_the_end_of_its_range_is_taken(tmp_path, changes):
    raw = tiny_recipe(Path("data"), **changes)
    assert parse_recipe(raw, where="here", root=tmp_path)


def test_numbers_of_any_size_from_python_are_refused_in_a_line(tmp_path):
    for value in (10**5000, -(10**5000)):
        with pytest.raises(RecipeError, match=r"here: finetune\.epochs: must be (less|greater) than"):
            parse_recipe(tiny_recipe(Path("data"), finetune__epochs=value), where="here", root=tmp_path)
        with pytest.raises(RecipeError, match=r"here: finetune\.lr: "):
            parse_recipe(tiny_recipe(Path("data"), finetune__lr=value), where="here", root=tmp_path)
