"""Recipes: whatever is wrong is refused in one line that names file, place and remedy, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from alloy import assert_refused

NAN = float("nan")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("iteration", 2, ("iteration is unknown", "Did you mean iterations?")),
        ("finetune__lrr", 0.1, ("finetune.lrr is unknown", "Did you mean lr?")),
        ("student__r_max", 4.0, ("student: r_max is unknown", "Did you mean r_max_A?")),
        ("explore__guard", {"check_evry": 5}, ("explore.guard.check_evry is unknown", "Did you mean check_every?")),
        ("data__ood__value", ["s2"], ("data.ood.value is unknown", "Did you mean values?")),
        ("baselines", [{"kind": "scratch", "fit": {"epoch": 3}}],
         ("baselines.0.fit.epoch is unknown", "Did you mean epochs?")),
        ("baselines", [{"kind": "scrath"}], ("baselines.0", "scrath", "'scratch', 'teacher'")),
        ("baselines", [{"kind": "teacher"}, {"kind": "scratch", "fits": {}}],
         ("baselines.1.fits is unknown", "Did you mean fit?")),
        ("Name", "x", ("Name is unknown", "Did you mean name?")),
        ("list", [1], ("list is unknown",)),
        ("student__MLP_irreps", "4x1o", ("student: MLP_irreps", "must be scalars", "not '4x1o'")),
        ("data__e0s", {"Cu": "low"}, ("data.e0s",)),
        ("finetune__lr", "fast", ("finetune.lr", "valid number", "not 'fast'")),
        ("finetune__lr", -0.01, ("finetune.lr", "greater than 0", "not -0.01")),
        ("finetune__lr", [0.1, 0.2], ("finetune.lr", "valid number")),
        ("finetune__lr", NAN, ("finetune.lr", "finite")),
        ("explore__timestep_fs", 0, ("explore.timestep_fs", "greater than 0", "not 0")),
        ("explore__temperatures_K", [], ("explore.temperatures_K", "at least 1")),
        ("explore__temperatures_K", 600, ("explore.temperatures_K", "not 600")),
        ("explore__temperatures_K", [600, -1], ("explore.temperatures_K.1", "greater than 0")),
        ("explore__frame_every", 50, ("explore", "frame_every is larger than n_steps")),
        ("explore__ensemble", "nph", ("explore.ensemble", "'nvt_langevin'", "not 'nph'")),
        ("student__backend", "nequip", ("student.backend", "nequip is unknown", "mace")),
        ("student__hidden_irreps", "4x0e+8x1o", ("student: hidden_irreps", "same number of channels")),
        ("student", [1], ("student", "must be a section")),
        ("finetune", 3, ("finetune", "must be a section", "not 3")),
        ("data", ["train.extxyz"], ("data", "must be a section")),
        ("data__e0s", "fit", ("data.e0s", "'fitted'", "'isolated_atoms'", "not 'fit'")),
        ("data__valid_fraction", 1.5, ("data.valid_fraction", "less than 1")),
        ("data__valid_split", "grouped", ("data", "needs split_keys")),
        ("data__train", 7, ("data.train", "not 7")),
        ("name", "../elsewhere", ("name", "not '../elsewhere'")),
        ("device", "gpu", ("device", "not 'gpu'")),
        ("teacher", 7, ("teacher", "not 7")),
        (3, "three", ("3", "Keys should be strings")),
    ],
)  # fmt: skip
def test_a_wrong_key_or_value(task, command, key, value, words):
    raw = yaml.safe_load(Path("recipe.yaml").read_text())
    *sections, last = key.split("__") if isinstance(key, str) else [key]
    inner = raw
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    Path("recipe.yaml").write_text(yaml.safe_dump(raw))
    assert_refused(("recipe.yaml: ", *words), command, "recipe.yaml")


@pytest.mark.parametrize("key", ["name", "data.train", "data.test", "teacher", "explore.starts", "data.ood.values"])
def test_a_missing_key(task, command, key):
    raw = yaml.safe_load(Path("recipe.yaml").read_text())
    *sections, last = key.split(".")
    inner = raw
    for section in sections:
        inner = inner[section]
    del inner[last]
    Path("recipe.yaml").write_text(yaml.safe_dump(raw))
    assert_refused((f"recipe.yaml: {key} is missing", "add it"), command, "recipe.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("holds no keys", "init")),
        (b"# nothing yet\n", ("holds no keys", "init")),
        (b"- name: tiny\n", ("holds no keys", "init")),
        (b"name: tiny\ndata: {train: [a\nexplore: b\n", ("line 3", "not YAML")),
        (b"name: tiny\n\tdata: x\n", ("line 2", "not YAML")),
        (b"name: \x00\x01\x02", ("not YAML",)),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", ("is not text",)),
    ],
)
def test_a_file_that_is_no_recipe(here, command, content, words):
    Path("recipe.yaml").write_bytes(content)
    assert_refused(("recipe.yaml: ", *words), command, "recipe.yaml")


def test_a_recipe_that_is_not_there_or_a_folder(task, command):
    assert_refused(("nowhere.yaml: no such recipe", "ipip-mace init"), command, "nowhere.yaml")
    assert_refused(("data: is a folder", "name the recipe"), command, "data")


def test_a_recipe_that_may_not_be_read(task, command, monkeypatch):
    def no(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", no)
    assert_refused(("recipe.yaml: can't be read (Permission denied)", "permissions"), command, "recipe.yaml")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("finetune.lr", ("--set finetune.lr", "key=value")),
        ("=3", ("--set =3", "key=value")),
        ("finetune.lr=[1", ("--set finetune.lr=[1", "not a YAML value")),
        ("finetun.lr=0.1", ("finetun is unknown", "Did you mean finetune?")),
        ("name.x=1", ("--set name.x=1", "name is not a section")),
        ("finetune.lr=-1", ("finetune.lr", "greater than 0")),
        ("finetune=null", ("finetune", "must be a section")),
    ],
)
def test_a_bad_override(task, command, override, words):
    assert_refused(words, command, "recipe.yaml", "--set", override)
