"""The guard stops the replica that breaks, and no other."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from walking import Pulls, by_replica, copper, huge_force, same, settings, walk

from ipip_ext.data.geometry import closest_approach
from ipip_ext.md.guard import REASONS
from ipip_ext.potentials.base import FrameFailed, Prediction
from ipip_ext.recipe.walk import Guard


def fail_frame(index, energy, forces):
    raise FrameFailed(index, "scf did not converge")


def fail_batch(index, energy, forces):
    raise RuntimeError("out of cheese")


def nan_forces(index, energy, forces):
    return Prediction(energy, forces * np.nan)


def nan_energy(index, energy, forces):
    return Prediction(np.nan, forces)


def jump(index, energy, forces):
    return Prediction(-20.1, forces)


def kick(index, energy, forces):
    return Prediction(energy, forces + 30.0)


@pytest.mark.parametrize(
    ("odd", "reason", "step", "words"),
    [
        (fail_frame, "calculator", 5, "scf did not converge"),
        (fail_batch, "calculator", 5, "RuntimeError: out of cheese"),
        (nan_forces, "non_finite", 5, "not finite"),
        (nan_energy, "non_finite", 5, "not finite"),
        (huge_force, "force", 5, "61.0 eV/A (limit 60)"),
        (jump, "energy", 8, "-5.0"),
        (kick, "temperature", 8, "kinetic temperature"),
    ],
)
def test_guard_stops_one_replica_and_the_rest_goes_on(tmp_path, odd, reason, step, words):
    guard = Guard(check_every=4)
    explore = settings(ensemble="nve", n_steps=12, frame_every=1 if step == 5 else 12, guard=guard)
    explore = explore.model_copy(update={"frame_every": 4})
    bad = copper(1)
    bad.positions += [1000.0, 0, 0]
    bad.info["name"] = "bad"
    starts = [copper(1), bad, copper(1, seed=4)]
    result = walk(tmp_path / "odd", starts, explore, Pulls(odd))
    (stop,) = result.stops
    assert (stop.replica, stop.start, stop.reason, stop.md_step) == ("it00-md01", "bad", reason, step)
    assert words in stop.sentence
    assert stop.sentence.startswith("it00-md01 (start bad, 300 K) stopped at step")
    assert stop.reason in REASONS
    assert (stop.value is None) == (reason in {"calculator", "non_finite"})
    frames = by_replica(result.frames)
    assert [f.info["md_step"] for f in frames["it00-md01"]] == [4]
    assert stop.frame_ids == (frames["it00-md01"][0].info["frame_id"],)
    assert frames["it00-md01"][0].info.pop("before_stop") == reason
    calm = by_replica(walk(tmp_path / "calm", starts, explore, Pulls(odd, after=10**6)).frames)
    for replica in ("it00-md00", "it00-md02"):
        same(frames[replica], calm[replica])
    same(frames["it00-md01"], calm["it00-md01"][:1])


def test_guard_distance_before_a_frame_is_kept(tmp_path):
    atoms = Atoms("Ar2", [[0, 0, 0], [3.0, 0, 0]], cell=[20, 20, 20], pbc=True)
    atoms.info["name"] = "pair"
    explore = settings(ensemble="nve", n_steps=4000, frame_every=50, initial_temperature_factor=1e-6)
    explore = explore.model_copy(update={"guard": Guard(max_temperature_factor=1e12, check_every=7)})

    class Attracts(Pulls):
        def one(self, _index, atoms):
            pull = np.sign(atoms.positions[1, 0] - atoms.positions[0, 0])
            return Prediction(0.0, np.array([[pull, 0, 0], [-pull, 0, 0]]))

    result = walk(tmp_path, [atoms], explore, Attracts(None))
    (stop,) = result.stops
    assert stop.reason == "distance"
    assert stop.value < stop.limit == 0.5
    assert stop.md_step % 7 == 0 or stop.md_step % 50 == 0
    assert all(f.info["md_step"] < stop.md_step for f in result.frames)
    assert result.frames


def test_real_potential_too_long_a_step_blows_up_and_is_caught(tmp_path):
    explore = settings(ensemble="nve", timestep_fs=80.0, n_steps=200, temperatures_K=(2000.0,), replicas=3)
    result = walk(tmp_path, [copper(1)], explore)
    assert len(result.stops) == 3
    assert {s.reason for s in result.stops} <= set(REASONS)
    assert all(np.isfinite(f.arrays["MD_forces"]).all() for f in result.frames)


def test_replicas_broken_from_the_start_stop_at_step_0_and_end_it(tmp_path):
    near = Atoms("Cu2", [[0, 0, 0], [0.3, 0, 0]], cell=[9, 9, 9], pbc=True)
    unknown = bulk("Fe", cubic=True)  # EMT has no iron
    result = walk(tmp_path, [near, unknown], settings(guard=Guard(max_force_eV_per_A=1e9)))
    assert [(s.reason, s.md_step) for s in result.stops] == [("distance", 0), ("calculator", 0)]
    assert result.frames == []
    again = walk(tmp_path, [near, unknown], settings(guard=Guard(max_force_eV_per_A=1e9)), potential=Never())
    assert again.stops == result.stops


class Never:
    name, n_parameters, batched = "emt", None, False

    def compute(self, _frames, **_options):
        raise AssertionError("nothing is left to compute")


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
def test_closest_approach_is_brute_force(pbc):
    rng = np.random.default_rng(3)
    for trial in range(20):
        cell = np.diag([2.0, 3.0, 4.0]) + rng.normal(0, 0.5, (3, 3))
        n = int(rng.integers(1, 6))
        atoms = Atoms(["Mo", "S", "O", "H", "Cu"][:n], rng.uniform(-6, 9, (n, 3)), cell=cell, pbc=pbc)
        if trial == 0 and not any(pbc):
            atoms.cell[:] = 0
        expected = brute(atoms)
        found = closest_approach(atoms, 0.9)
        assert found == (pytest.approx(expected) if expected < 0.9 else np.inf)


def brute(atoms):
    from ase.data import covalent_radii

    ranges = [range(-12, 13) if p else range(1) for p in atoms.pbc]
    shifts = np.array([[i, j, k] for i in ranges[0] for j in ranges[1] for k in ranges[2]]) @ atoms.cell.array
    closest = np.inf
    for i, zi in enumerate(atoms.numbers):
        for j, zj in enumerate(atoms.numbers):
            d = np.linalg.norm(atoms.positions[j] - atoms.positions[i] + shifts, axis=1)
            d = d[d > 1e-9] if i == j else d
            if len(d):
                closest = min(closest, d.min() / (covalent_radii[zi] + covalent_radii[zj]))
    return closest
