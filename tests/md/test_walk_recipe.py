"""MD in a recipe: what can't be walked is refused before, and what a walk leaves is read by the loop."""

from __future__ import annotations

import json

import pytest
from alloy import cell, write_recipe

from ipip_ext.check import preflight
from ipip_ext.data import frames as fr
from ipip_ext.errors import UserError
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run.events import EventBus
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.explore import explore


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperatures_K": [600, -1]}, "explore.temperatures_K.1: must be greater than 0"),
        ({"temperatures_K": [[600, -1]]}, "explore.temperatures_K.0.1: must be greater than 0"),
        ({"temperatures_K": [[600, 700, 800]]}, "explore.temperatures_K.0"),
        ({"temperatures_K": [[300, 600]], "ensemble": "nve"}, "no thermostat that could follow a ramp"),
        ({"n_steps": 0}, "needs rattle_A, strain or kick_fraction"),
        ({"strain": 0.5}, "explore.strain"),
        ({"guard": {"max_volume_factor": 0.5}}, "explore.guard.max_volume_factor"),
        ({"max_trajectory_GB": 1e-6}, "recipe.yaml: explore: 2 replicas x 8 frames take up to"),
    ],
)
def test_refused_as_it_stands(tmp_path, alloy_data, changes, words):
    path = write_recipe(tmp_path, alloy_data, **{f"explore__{key}": value for key, value in changes.items()})
    with pytest.raises(UserError) as refused:
        preflight.check_data(load_recipe(path))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_measure_of_stability_knows_no_second_try(tmp_path, alloy_data):
    path = write_recipe(tmp_path, alloy_data, evaluate__stability={"guard": {"restarts": 1}})
    with pytest.raises(UserError, match=r"guard\.restarts must be 0"):
        load_recipe(path)


def test_npt_is_refused_where_it_makes_no_sense(tmp_path, alloy_data):
    slab = cell(0, 0.01)
    slab.center(vacuum=5.0, axis=2)
    fr.write_frames(tmp_path / "slab.extxyz", [slab])
    path = write_recipe(tmp_path, alloy_data, explore__ensemble="npt", explore__starts=str(tmp_path / "slab.extxyz"))
    with pytest.raises(UserError, match=r"slab\.extxyz: start start0: its cell holds vacuum"):
        preflight.check_data(load_recipe(path))
    teacher = {"python": "ase.calculators.harmonic:HarmonicCalculator", "kwargs": {"harmonicforcefield": None}}
    path = write_recipe(tmp_path, alloy_data, explore__ensemble="npt", teacher=teacher)
    with pytest.raises(UserError, match="which ensemble npt needs"):
        preflight.check(load_recipe(path))


def test_what_was_walked_before_a_stop_reaches_the_pool(tmp_path, alloy_data):
    guard = {"max_force_eV_per_A": 1.4, "check_every": 2, "restarts": 2}
    path = write_recipe(
        tmp_path, alloy_data, explore__guard=guard, explore__ensemble="npt", explore__temperatures_K=[[600, 2500]],
        explore__strain=0.02, explore__n_steps=60,
    )  # fmt: skip
    recipe = load_recipe(path)
    done = Workspace(tmp_path / "run", EventBus([])).do(
        explore, recipe.explore, teacher=recipe.teacher, starts=recipe.explore.starts
    )
    stops, frames = json.loads(done.stops.read_text()), fr.read_frames(done.frames)
    assert {stop["reason"] for stop in stops} == {"force"}
    named = {name for stop in stops for name in stop["frame_ids"]}
    before = {frame.info["frame_id"] for frame in frames if frame.info.get("before_stop") == "force"}
    assert before == named
    assert 0 < len(before) == done.n_before_stop < done.n_frames == len(frames)
    assert done.n_restarts == sum(stop["restarted"] for stop in stops)
    assert done.n_stopped + done.n_restarts == len(stops)
    for frame in frames:
        assert frame.info["REF_stress"].shape == (3, 3)
        assert not {"MD_energy", "MD_stress", "MD_kinetic_temperature_K", "MD_forces"} & {*frame.info, *frame.arrays}
        assert 600 < frame.info["temperature_K"] <= 2500
