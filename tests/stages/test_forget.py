"""Forgetting over iterations, and which parameter groups a recipe may name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from alloy import cell, label, write_recipe

from ipip_ext import loop
from ipip_ext.backends import registry
from ipip_ext.check import planning, preflight
from ipip_ext.compare.grid import plan
from ipip_ext.errors import RecipeError
from ipip_ext.recipe.file import dump_recipe, load_recipe
from ipip_ext.recipe.forget import Forget, Forgetting
from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.inputs import Student
from ipip_ext.stages.pool import forget

BACKEND = registry.backend("mace")
NOTHING = Forgetting(groups=(), keep=1.0, noise=0.0)


def forgotten(*groups: str, keep: float = 0.0, noise: float = 1.0) -> Forgetting:
    return Forgetting(groups=groups, keep=keep, noise=noise)


# ---------------------------------------------------------------- the schedule


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [forgotten("readouts")] * 3),
        ({"groups": []}, [forgotten()] * 3),
        ({"groups": ["all"], "keep": [0, 0.5]}, [forgotten("all", keep=k) for k in (0.0, 0.5, 0.5)]),
        ({"groups": ["all"], "noise": [1, 0.5, 0.2]}, [forgotten("all", noise=n) for n in (1.0, 0.5, 0.2)]),
        (
            {"groups": [["all"], [], ["readouts", "products"]]},
            [forgotten("all"), forgotten(), forgotten("readouts", "products")],
        ),
        ({"groups": ["all"], "every": 2}, [NOTHING, forgotten("all"), NOTHING]),
        (
            {"groups": ["all"], "every": 2, "keep": [0, 0.5]},
            [NOTHING, forgotten("all"), NOTHING, forgotten("all", keep=0.5), NOTHING, forgotten("all", keep=0.5)],
        ),
        ({"groups": ["all"], "until": 1}, [forgotten("all"), forgotten("all"), NOTHING]),
    ],
)
def test_what_is_forgotten_after_each_iteration(keys, expected):
    settings = Forget(**keys)
    assert [settings.at(iteration) for iteration in range(len(expected))] == expected


def test_a_schedule_survives_a_dump_and_one_value_stays_one_value(tmp_path, alloy_data):
    path = write_recipe(tmp_path, alloy_data, forget={"groups": [["all"], []], "keep": [0, 0.5]})
    recipe = load_recipe(path)
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path).forget == recipe.forget
    dumped = recipe.model_dump(mode="json")["forget"]
    assert dumped == {"groups": [["all"], []], "keep": [0.0, 0.5], "noise": 1.0, "every": 1, "until": None}


# ---------------------------------------------------------------- the stage


def test_the_stage_forgets_by_schedule(tmp_path, alloy_data):
    recipe = load_recipe(write_recipe(tmp_path, alloy_data))
    frames = [label(cell(seed)) for seed in range(2)]
    model = BACKEND.build(recipe.student, {"Cu": 0.0, "Al": 0.0}, frames, seed=1)
    BACKEND.save(model, tmp_path / "model")
    events: list[Event] = []
    work = Workspace(tmp_path / "run", EventBus([events.append]), seed=3)
    settings = Forget(groups=[["readouts"], ["all"]], keep=[0, 0.5], every=2)
    before = BACKEND.parameters(model)
    done = [
        work.at(f"iter-{i:02d}").do(forget, settings.at(i), student=Student("mace", tmp_path / "model"))
        for i in range(4)
    ]
    found = [BACKEND.parameters(BACKEND.load(one.model)) for one in done]
    fresh = BACKEND.parameters(BACKEND.forget(model, ["all"], 0.0, 1.0, seed=done[3].record["fingerprint"]["seed"]))
    readouts = set(BACKEND.groups(model)["readouts"])
    for name, value in before.items():
        assert np.array_equal(found[0][name], value)
        assert np.array_equal(found[1][name], value) == (name not in readouts)
        assert np.array_equal(found[2][name], value)
        assert np.allclose(found[3][name], 0.5 * value + fresh[name], atol=1e-6)
        assert not np.allclose(fresh[name], value)
    shares = [event.value for event in events if event.name == "forgotten_share"]
    size = {name: value.size for name, value in before.items()}
    assert shares == [0.0, sum(size[name] for name in readouts) / sum(size.values()), 0.0, 1.0]


@pytest.mark.slow
def test_a_run_forgets_by_schedule_and_trains_by_group(tmp_path, alloy_data):
    path = write_recipe(
        tmp_path, alloy_data, iterations=3, min_improvement=None, baselines=[{"kind": "teacher"}],
        pretrain={"epochs": 1, "lr_factors": {"interactions": 0.5}},
        finetune={"epochs": 1, "freeze": ["embedding", "products"]}, forget={"groups": [["products"], []]},
    )  # fmt: skip
    recipe = load_recipe(path)
    loop.run(recipe, Workspace(tmp_path / "run", EventBus([]), recipe.seed))

    def weights(stage: str) -> dict[str, np.ndarray]:
        return BACKEND.parameters(BACKEND.load(tmp_path / "run" / stage / "model"))

    groups = BACKEND.groups(BACKEND.load(tmp_path / "run/iter-00/finetune/model"))
    frozen, dropped = {*groups["embedding"], *groups["products"]}, set(groups["products"])
    for i in range(3):
        pretrained, tuned = weights(f"iter-{i:02d}/pretrain"), weights(f"iter-{i:02d}/finetune")
        assert {name for name in tuned if np.array_equal(tuned[name], pretrained[name])} == frozen
    for i, expected in enumerate((dropped, set())):
        tuned, after = weights(f"iter-{i:02d}/finetune"), weights(f"iter-{i:02d}/forget")
        assert {name for name in tuned if not np.array_equal(tuned[name], after[name])} == expected


# ---------------------------------------------------------------- what a recipe may say


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"forget__keep": 2}, "forget.keep: must be less than or equal to 1, not 2."),
        ({"forget__keep": [0, 2]}, "forget.keep.1: must be less than or equal to 1, not 2."),
        ({"forget__keep": []}, "forget.keep: must be a number or hold some, such as [0, 0.5], not []."),
        ({"forget__noise": "much"}, "forget.noise: must be a valid number, not 'much'."),
        ({"forget__noise": [1, -1]}, "forget.noise.1: must be greater than or equal to 0, not -1."),
        ({"forget__groups": "readouts"}, "forget.groups: must be a list, such as [a, b], not 'readouts'."),
        ({"forget__groups": ["all", ["all"]]}, "forget.groups.0: must be a list, such as [a, b], not 'all'."),
        ({"forget__groups": [["all"], ["readout"]]}, "forget.groups: readout is unknown. Did you mean readouts?"),
        ({"forget__every": 0}, "forget.every: must be greater than 0, not 0."),
        ({"forget__until": -1}, "forget.until: must be greater than or equal to 0, not -1."),
        (
            {"finetune__freeze": ["readouts"], "finetune__lr_factors": {"readouts": 0.1}},
            "finetune: readouts stands in freeze and in lr_factors; take it out of one of them.",
        ),
        ({"finetune__lr_factors": {"readouts": -1}}, "finetune.lr_factors.readouts: must be greater than or equal"),
        ({"finetune__freeze": ["readout"]}, "finetune.freeze: readout is unknown. Did you mean readouts?"),
        ({"pretrain__lr_factors": {"embed": 0.1}}, "pretrain.lr_factors: embed is unknown. Did you mean embedding?"),
        ({"finetune__freeze": ["all"]}, "finetune.freeze: nothing is left to train"),
        (
            {"baselines": [{"kind": "scratch", "fit": {"freeze": ["embedding", "interactions", "products"],
                                                       "lr_factors": {"readouts": 0}}}]},
            "baselines.0.fit.freeze: nothing is left to train",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_the_run(tmp_path, alloy_data, changes, words):
    path = write_recipe(tmp_path, alloy_data, **changes)
    with pytest.raises(RecipeError, match=re.escape(f"{path}: {words}")):
        preflight.check_names(load_recipe(path))


def test_training_some_groups_alone_is_fine(tmp_path, alloy_data):
    everything_but = {"freeze": ["all"], "lr_factors": {"readouts": 1}}
    preflight.check_names(load_recipe(write_recipe(tmp_path, alloy_data, finetune=everything_but)))


@pytest.mark.parametrize(
    ("forgets", "words"),
    [
        ({"groups": ["readouts", "interactions"]}, "forgetting readouts, interactions between them"),
        ({}, "forgetting readouts between them"),
        ({"groups": []}, "forgetting nothing between them"),
        ({"groups": [["all"], ["readouts"], []]}, "forgetting all or readouts or nothing between them"),
        ({"groups": ["all"], "until": 0}, "forgetting all or nothing between them"),
    ],
)
def test_the_plan_says_what_is_forgotten(tmp_path, alloy_data, forgets, words):
    recipe = load_recipe(write_recipe(tmp_path, alloy_data, iterations=5, forget=forgets))
    assert any(words in line for line in planning.plan(recipe, *preflight.check(recipe)).lines)


# ---------------------------------------------------------------- ablations


def test_schedules_can_be_varied(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_recipe(tmp_path, alloy_data)
    vary = ["forget.keep=0,0.5,[0, 0.5]", "forget.groups=none,readouts+interactions,[[all], []]"]
    grid = plan(Path(path), vary, n_seeds=1)
    found = [variant.recipe.forget for variant in grid.variants]
    assert [(f.keep, f.groups) for f in found] == [
        (keep, groups)
        for keep in (0.0, 0.5, (0.0, 0.5))
        for groups in ((), ("readouts", "interactions"), (("all",), ()))
    ]
    assert len({variant.slug for variant in grid.variants}) == 9


def test_runs_share_a_forgetting_that_is_the_same():
    assert Forget(keep=[0, 0.5]).at(0) == Forget(keep=0).at(0)
    assert Forget(until=0).at(0) == Forget().at(0)
