"""Grids: what may be varied, and the runs that come of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from alloy import assert_refused

from ipip_ext.compare.grid import plan
from ipip_ext.compare.vary import parse_vary
from ipip_ext.recipe.file import load_recipe

GRID = Path("runs/tiny-ablate")
RECIPE = Path("recipe.yaml")


def test_values_of_keys_that_hold_lists(task):
    recipe = load_recipe(RECIPE)
    vary = [
        "forget.groups=none,all,readouts,readouts+interactions,[products, embedding]",
        "explore.temperatures_K=300,[300, 600]", "student.hidden_irreps=4x0e,4x0e+4x1o", "finetune.patience=null,5",
    ]  # fmt: skip
    assert parse_vary(vary, recipe) == {
        "forget.groups": [[], ["all"], ["readouts"], ["readouts", "interactions"], ["products", "embedding"]],
        "explore.temperatures_K": [[300], [300, 600]],
        "student.hidden_irreps": ["4x0e", "4x0e+4x1o"],
        "finetune.patience": [None, 5],
    }


def test_the_grid_is_the_product_and_its_folders_are_names(task):
    vary = ["forget.groups=none,readouts+interactions", "teacher={python: 'ase.calculators.emt:EMT'}"]
    grid = plan(RECIPE, vary, sets=["seed=7"], n_seeds=2)
    teacher = "teacher=python-ase.calculators.emt-EMT"
    slugs = [f"forget.groups=none,{teacher}", f"forget.groups=readouts+interactions,{teacher}"]
    assert [variant.slug for variant in grid.variants] == slugs
    assert [run.folder for run in grid.runs()] == [GRID / slug / f"seed-{seed}" for seed in (7, 8) for slug in slugs]
    assert [run.recipe.seed for run in grid.runs()] == [7, 7, 8, 8]
    assert grid.variants[0].recipe.forget.groups == ()
    assert not GRID.exists()
    shutil.copytree("data", "data-test.extxyz")
    shutil.copy("data/test.extxyz", "data-test.extxyz/a b")
    shutil.copy("data/test.extxyz", "data-test.extxyz/a-b")
    alike = plan(RECIPE, ["data.test=data-test.extxyz/a b,data-test.extxyz/a-b"], n_seeds=1).variants
    assert alike[0].slug != alike[1].slug
    assert all(variant.slug.startswith("data.test=data-test.extxyz-a-b-") for variant in alike)


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ((), ("nothing is varied", "--vary key=a,b,c")),
        (("finetune.lrr=1,2",), ("finetune.lrr is unknown", "Did you mean lr?")),
        (("finetun.lr=1,2",), ("finetun is unknown", "Did you mean finetune?")),
        (("finetune.lr",), ("--vary finetune.lr", "key=a,b,c")),
        (("finetune.lr=",), ("--vary finetune.lr=", "key=a,b,c")),
        (("=1,2",), ("--vary =1,2", "key=a,b,c")),
        (("finetune.lr=[1",), ("--vary finetune.lr=[1", "not YAML values")),
        (("finetune.lr=0.01,fast",), ("finetune.lr", "valid number", "not 'fast'")),
        (("finetune.lr=0.01,1e-2",), ("finetune.lr=0.01 and finetune.lr=1e-2 are the same recipe",)),
        (("finetune.lr=0.01", "finetune.lr=0.02"), ("finetune.lr is varied twice",)),
        (("seed=1,2",), ("can't be varied", "--seeds")),
        (("name=a,b",), ("can't be varied", "--set")),
        (("device=cpu,cuda",), ("can't be varied", "--set")),
        (("parallel=true,false",), ("can't be varied", "--set")),
        (("tracking.experiment=a,b",), ("can't be varied", "--set")),
        (("forget.groups=none,readout",), ("forget.groups: readout is unknown", "Did you mean readouts?")),
        (("data.n_train=4,13",), ("train.extxyz", "data.n_train is 13, but 12 frames")),
        (("data.n_train=4,0",), ("data.n_train", "greater than 0")),
        (("data.test=data/test.extxyz,data/none.extxyz",), ("none.extxyz: no such file",)),
        (("teacher=[none]",), ("teacher", "not ['none']")),
        (("evaluate.speed_start=0,9",), ("evaluate.speed_start: 9 is no start",)),
    ],
)  # fmt: skip
def test_what_can_not_be_varied_is_refused_before_anything_is_written(task, vary, words):
    assert_refused(words, "ablate", "recipe.yaml", *(part for text in vary for part in ("--vary", text)))


def test_a_folder_that_is_something_else_is_refused(task):
    Path("there").mkdir()
    Path("there/notes.txt").write_text("mine")
    vary = ("ablate", "recipe.yaml", "--vary", "finetune.lr=0.01,0.02", "--workdir")
    assert_refused(("there: is not empty and holds no ablate.yaml", "--workdir"), *vary, "there")
    assert_refused(("notes.txt: is a file", "--workdir"), *vary, "there/notes.txt")
    assert_refused(("no such recipe",), "ablate", "none.yaml", "--vary", "finetune.lr=1")
