"""What a stop leaves behind: frames from before, a second try, and a run that goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from walking import Pulls, by_replica, copper, huge_force, same, settings, walk

from ipip_ext import md
from ipip_ext.errors import RecipeError, WorkspaceError
from ipip_ext.md import engine, room
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe.walk import Guard
from ipip_ext.teachers.ase_potential import AsePotential


def bad():
    atoms = copper(1)
    atoms.positions += [1000.0, 0, 0]
    atoms.info["name"] = "bad"
    return atoms


def test_the_last_sane_configurations_are_kept(tmp_path):
    explore = settings(ensemble="nve", n_steps=20, frame_every=6, guard=Guard(check_every=4, keep_before=2))
    result = walk(tmp_path, [copper(1), bad()], explore, Pulls(huge_force, after=11))
    (stop,) = result.stops
    assert (stop.md_step, stop.frame_ids) == (11, ("it00-md01-000006", "it00-md01-000008"))
    frames = by_replica(result.frames)["it00-md01"]
    assert [(f.info["md_step"], f.info.get("before_stop")) for f in frames] == [(6, "force"), (8, "force")]
    for frame, label in zip(frames, Pulls(huge_force).compute(frames), strict=True):
        assert frame.info["MD_energy"] == label.energy_eV
    assert not any("before_stop" in f.info for f in by_replica(result.frames)["it00-md00"])
    none = explore.model_copy(update={"guard": Guard(check_every=4, keep_before=0)})
    result = walk(tmp_path / "none", [copper(1), bad()], none, Pulls(huge_force, after=11))
    assert result.stops[0].frame_ids == ()
    assert [f.info["md_step"] for f in by_replica(result.frames)["it00-md01"]] == [6]


class Edge(AsePotential):
    """EMT with an edge: it fails where the first atom has gone too far."""

    batched = True

    def __init__(self, dies=10**9):
        super().__init__(EMT(), "edge")
        self.calls, self.dies = 0, dies

    def compute(self, frames, *, stress=False):
        self.calls += 1
        if self.calls == self.dies:
            raise KeyboardInterrupt
        said = super().compute(frames, stress=stress)
        return [self.one(atoms, told) for atoms, told in zip(frames, said, strict=True)]

    def one(self, atoms, told):
        far = np.abs(atoms.positions[0]).max() > 0.22
        return Prediction(told.energy_eV, told.forces_eV_per_A + (100.0 if far else 0.0))


def restarting(restarts=3):
    guard = Guard(check_every=3, restarts=restarts)
    return settings(
        temperatures_K=(800.0, (300.0, 900.0)), n_steps=60, frame_every=7, timestep_fs=4.0, replicas=2,
        max_batch_replicas=3, guard=guard,
    )  # fmt: skip


def test_a_stopped_replica_begins_again_a_bounded_number_of_times(tmp_path):
    starts = [bulk("Cu", cubic=True), bulk("Al", cubic=True)]
    result = walk(tmp_path / "a", starts, restarting(), Edge())
    by = {}
    for stop in result.stops:
        by.setdefault(stop.replica, []).append(stop)
    assert any(len(stops) > 1 for stops in by.values())
    for replica, stops in by.items():
        assert [stop.attempt for stop in stops] == list(range(len(stops)))
        assert all(stop.restarted == (stop.attempt < 3) for stop in stops)
        assert all(stop.reason == "force" for stop in stops)
        assert (replica in result.ended_early) == (len(stops) == 4)
    for frames in by_replica(result.frames).values():
        steps = [f.info["md_step"] for f in frames]
        assert steps == sorted(set(steps))
        gone = [f.info["before_stop"] for f in frames if f.info["md_step"] % 7]
        assert set(gone) <= {"force"}
    full = [r for r, frames in by_replica(result.frames).items() if r in by and r not in result.ended_early]
    assert all({7 * i for i in range(1, 9)} <= {f.info["md_step"] for f in by_replica(result.frames)[r]} for r in full)
    again = walk(tmp_path / "b", starts, restarting(), Edge())
    assert again.stops == result.stops
    same(again.frames, result.frames)
    once = walk(tmp_path / "c", starts, restarting(0), Edge())
    assert len(once.stops) == len(by)
    assert {stop.md_step for stop in once.stops} == {stops[0].md_step for stops in by.values()}
    alone = md.plan_replicas(starts, restarting(), 1, "it00")[0]
    lone = walk(tmp_path / "lone", starts, restarting(), Edge(), replicas=[alone])
    same(lone.frames, by_replica(result.frames)[alone.id])


@pytest.mark.parametrize("dies", [2, 25, 60])
def test_restarts_are_resumed_exactly(tmp_path, monkeypatch, dies):
    starts = [bulk("Cu", cubic=True), bulk("Al", cubic=True)]
    whole = walk(tmp_path / "whole", starts, restarting(), Edge())
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path / "cut", starts, restarting(), Edge(dies))
    cut = walk(tmp_path / "cut", starts, restarting(), Edge())
    assert cut.stops == whole.stops
    same(cut.frames, whole.frames)


def exits(_index, _energy, _forces):
    raise SystemExit("code 3")


def too_few(_index, energy, forces):
    return Prediction(energy, forces[1:])


def no_energy(_index, _energy, forces):
    return Prediction(None, forces)


def no_prediction(_index, _energy, _forces):
    return None


@pytest.mark.parametrize("odd", [exits, too_few, no_energy, no_prediction])
@pytest.mark.parametrize("batched", [True, False])
def test_no_calculator_takes_the_run_down(tmp_path, odd, batched):
    explore = settings(ensemble="nve", n_steps=10)
    potential = Pulls(odd)
    potential.batched = batched
    result = walk(tmp_path, [copper(1), bad()], explore, potential)
    (stop,) = result.stops
    assert (stop.replica, stop.reason) == ("it00-md01", "calculator")
    assert [f.info["md_step"] for f in by_replica(result.frames)["it00-md00"]] == [5, 10]


def test_a_disk_without_room_is_refused_before_and_stops_nothing_committed(tmp_path, monkeypatch):
    explore = settings(n_steps=40, frame_every=1, max_trajectory_GB=1e-5)
    with pytest.raises(RecipeError, match="max_trajectory_GB 1e-05; raise it"):
        walk(tmp_path / "cap", [copper(1)], explore)
    assert not (tmp_path / "cap").exists()
    explore = explore.model_copy(update={"max_trajectory_GB": 1.0})
    whole = walk(tmp_path / "whole", [copper(1)], explore)

    usage = shutil.disk_usage(tmp_path)
    free = [room.SPARE_BYTES + 10_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=free[0]))
    folder = tmp_path / "full"
    with pytest.raises(WorkspaceError, match=r"replicas need 5.*e-05 GB, and 1e-05 GB are free"):
        walk(folder, [copper(1)], explore)

    free[0] = room.SPARE_BYTES + 10**6
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", -1.0)

    def fills(_done, _total, _text):
        if len(list(folder.glob("frames-*"))) == 9:
            free[0] = room.SPARE_BYTES + 100

    plan = md.plan_replicas([copper(1)], explore, 1, "it00")
    with pytest.raises(WorkspaceError, match="all up to the last commit is safe"):
        md.run(AsePotential(EMT(), "emt"), plan, explore, folder, fills)
    assert len(list(folder.glob("frames-*"))) == 9
    assert not list(Path(folder).glob("*.part"))
    free[0] = usage.free
    resumed = walk(folder, [copper(1)], explore)
    same(resumed.frames, whole.frames)


def test_frames_are_put_in_order_without_holding_all(tmp_path, monkeypatch):
    from ipip_ext.md import checkpoint

    explore = settings(n_steps=20, frame_every=1, replicas=5, max_batch_replicas=2)
    monkeypatch.setattr(engine, "COMMIT_BYTES", 3000)
    whole = walk(tmp_path, [copper(1), copper(2)], explore)
    assert len(list(tmp_path.glob("frames-*"))) > 10
    monkeypatch.setattr(checkpoint, "READ_AT_ONCE_BYTES", 20_000)
    names = [frame.info["frame_id"] for frame in whole]
    assert names == sorted(names)
    assert len(names) == 10 * 20
    same(list(whole), whole.frames)
