"""The estimate is of every stage that a run does, and adds up what calls of teacher and student cost."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alloy import ROOT, write_recipe
from ase import Atoms

from ipip_ext.check import planning
from ipip_ext.check.costs import Costs, of_the_loop
from ipip_ext.check.costs_compared import of_the_comparison
from ipip_ext.check.pace import Pace, pace_of
from ipip_ext.data.dataset import load_dataset
from ipip_ext.measure.timing import finished as finished_stages
from ipip_ext.potentials.base import Potential, Prediction
from ipip_ext.recipe.file import load_recipe
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run.device import room_beside
from ipip_ext.teachers import entries

TEACHER, STUDENT = Pace(call_s=1.0, atom_s=0.5), Pace(call_s=0.1, atom_s=0.01)


def kinds(seconds: dict[str, float]) -> set[str]:
    return {part.split(" ", maxsplit=1)[0] for part in seconds}


def planned(recipe: Recipe) -> planning.Plan:
    recipe = recipe.model_copy(update={"device": "cpu"})
    data = load_dataset(recipe.data, recipe.explore.starts, recipe.seed)
    return planning.plan(recipe, data, entries.make(recipe.teacher, device="cpu", root=recipe.folder))


def costs(*changes: str) -> dict[str, float]:
    recipe = load_recipe(Path("recipe.yaml"), changes)
    data = load_dataset(recipe.data, recipe.explore.starts, recipe.seed)
    of = Costs(recipe, data, TEACHER, STUDENT, build_s=2.0)
    return {**of_the_loop(of), **of_the_comparison(of)}


def test_every_stage_of_a_run_is_named(finished):
    plan = planned(load_recipe(Path("recipe.yaml")))
    done = {stage.name for stage in finished_stages(Path("runs/tiny"))}
    assert kinds(plan.seconds) == done
    for kind in done:
        assert kind in str(plan).split("rough cost")[1]


def test_stages_of_committees_bought_labels_and_properties_are_named(here):
    with tarfile.open(ROOT / "tests/fixtures/run_0.1.0.tar.xz") as packed:
        packed.extractall(here, filter="data")
    plan = planned(load_recipe(Path("recipe.yaml")))
    done = {stage.name for stage in finished_stages(Path("runs/tiny"))}
    assert {"ask", "committee", "calibration", "properties", "stability"} <= done <= kinds(plan.seconds)
    (asked,) = (part for part in plan.seconds if part.startswith("ask "))
    assert np.isnan(plan.seconds[asked])
    assert [*asked.split(), "unknown"] in [line.split() for line in str(plan).splitlines()]
    assert plan.total_s == pytest.approx(sum(s for s in plan.seconds.values() if not np.isnan(s)))


def test_costs_add_up(task):
    found = costs()
    # 2 replicas of 4 atoms in a batch, 40 steps
    assert found["explore (teacher MD)"] == pytest.approx(40 * (1 + 2 * 4 * 0.5))
    assert found["sample x 1 (student MD)"] == pytest.approx(40 * (0.1 + 8 * 0.01) + 2)
    assert found["label x 1"] == pytest.approx(1 + 16 * 4 * 0.5 + 2)
    # 12 frames in batches of 5: three steps an epoch, the last one smaller; 4 frames validate
    assert found["scratch (from-scratch baseline, at most)"] == pytest.approx(
        3 * (3 * 3.5 * (0.1 + 20 * 0.01) * 12 / 15 + 0.1 + 16 * 0.01) + 2
    )
    # 6 test frames for two iterations, scratch and the teacher, which labels 12 training frames too
    own, teacher = 0.1 + 24 * 0.01 + 2, (1 + 24 * 0.5) + (1 + 48 * 0.5)
    assert found["evaluate x 4"] == pytest.approx(3 * own + teacher)
    # warm-up and 2 steps on 4, 32 and 64 atoms
    assert found["speed x 5 (timing)"] == pytest.approx(4 * (6 * (0.3 + 100 * 0.01) + 2) + 6 * (3 + 100 * 0.5))
    assert "correct x 1" not in found
    assert costs("correct.form=pair")["correct x 1"] == pytest.approx(1 + 48 * 0.5 + 1)


def test_rounds_and_walks_count(task):
    three = costs("iterations=3", "sample.n_steps=80", "explore.max_batch_replicas=1")
    assert three["explore (teacher MD)"] == pytest.approx(40 * (2 + 8 * 0.5))
    assert three["sample x 2 (student MD)"] == pytest.approx(2 * (80 * (2 * 0.1 + 8 * 0.01) + 2))
    assert {"pretrain x 3", "finetune x 3", "forget x 2", "evaluate x 5", "speed x 6 (timing)"} <= set(three)
    one = costs("iterations=1")
    assert {"pretrain x 1", "model"} <= set(one)
    assert not {"sample", "select", "label", "forget"} & kinds(one)
    beside = costs("baselines=[{kind: no_forget}, {kind: distilled}]", "iterations=3")
    assert {"pretrain x 5", "finetune x 5", "sample x 3 (student MD)", "evaluate x 7"} <= set(beside)


def test_what_is_computed_beside_does_not_add_to_the_whole():
    seconds = {"finetune x 1": 100.0, "scratch (at most)": 60.0, "model": 0.4, "speed x 2 (timing)": 10.0}
    assert planning.Plan([], seconds).total_s == pytest.approx(170.4)
    plan = planning.Plan([], seconds, workers=2)
    assert plan.total_s == pytest.approx(110.4)
    lines = [line.split() for line in str(plan).splitlines()]
    assert ["finetune", "x", "1", "2", "min"] in lines
    assert ["all", "2", "min"] in lines
    assert replace(plan, seconds=seconds | {"scratch (at most)": 160.0}).total_s == 170
    assert replace(plan, seconds=seconds | {"evaluate x 3": 120.0}).total_s == pytest.approx(10 + 280.4 / 2)
    assert room_beside("cuda", 1) == room_beside("cpu", None) == room_beside("cpu", 10_000) == 0


@pytest.mark.parametrize(("compute", "workers"), [({"place": "here"}, 1), ({"place": "processes", "workers": 3}, 3)])
def test_the_place_decides_how_many_stages_go_at_once(task, compute, workers):
    write_recipe(task, Path("data"), parallel=True, compute=compute)
    assert planned(load_recipe(Path("recipe.yaml"))).workers == workers


class Counting(Potential):
    """Labels of zeros, which counts its calls."""

    name = "counting"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def compute(self, frames: list[Atoms], **_: object) -> list[Prediction]:
        self.calls.append(len(frames))
        return [Prediction(0.0, np.zeros((len(frame), 3))) for frame in frames]


def test_a_pace_is_measured_on_one_frame_and_on_ten():
    counting = Counting()
    pace = pace_of(counting, [Atoms("Cu4")] * 12, "cpu")
    assert counting.calls == [10, 10, 10, 1, 1, 1]
    assert pace.call_s >= 0
    assert pace.atom_s > 0
    assert Pace(1.0, 0.5).of(5, 4, 2) == pytest.approx(3 + 10)
