"""MD: physics, independence of replicas, guard, frames."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms, FixBondLengths
from ase.md.verlet import VelocityVerlet

from ipip_ext import md
from ipip_ext.errors import DataError, WorkspaceError
from ipip_ext.md.guard import REASONS, closest_approach
from ipip_ext.md.replicas import initial_momenta
from ipip_ext.md.walkers import new_generator
from ipip_ext.potentials.base import FrameFailed, Prediction
from ipip_ext.recipe.walk import Explore, Guard
from ipip_ext.teachers.entries import AsePotential


def copper(n=1, rattle=0.05, seed=0, element="Cu"):
    atoms = bulk(element, cubic=True).repeat((n, 1, 1))
    atoms.rattle(rattle, seed=seed)
    atoms.info["name"] = f"{element}{n}"
    return atoms


def settings(**kwargs):
    defaults = {"starts": Path("unused"), "temperatures_K": (300.0,), "n_steps": 20, "frame_every": 5}
    return Explore(**{**defaults, **kwargs})


def emt():
    return AsePotential(EMT(), "emt")


def walk(folder, starts, explore, potential=None, seed=1, replicas=None):
    replicas = replicas or md.plan_replicas(starts, explore, seed, "it00")
    return md.run(potential or emt(), replicas, explore, folder, lambda *_: None)


def by_replica(frames):
    found = {}
    for frame in frames:
        found.setdefault(frame.info["replica"], []).append(frame)
    return found


def same(one, other):
    assert [f.info for f in one] == [f.info for f in other]
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a.positions, b.positions)
        assert np.array_equal(a.arrays["MD_forces"], b.arrays["MD_forces"])


class Pulls:
    """Free atoms, with something odd from the n-th call for frames whose first atom stands at x > `beyond`."""

    name, n_parameters, batched = "pulls", None, True

    def __init__(self, odd, after=5, beyond=50.0):
        self.odd, self.after, self.beyond, self.calls = odd, after, beyond, 0

    def compute(self, frames, **_options):
        self.calls += 1
        return [self.one(i, atoms) for i, atoms in enumerate(frames)]

    def one(self, index, atoms):
        energy, forces = 0.0, np.zeros((len(atoms), 3))
        if atoms.positions[0, 0] > self.beyond and self.calls > self.after:
            return self.odd(index, energy, forces)
        return Prediction(energy, forces)


def test_plan_has_all_walks_with_stable_unique_ids_and_seeds():
    explore = settings(temperatures_K=(300.0, 900.0), replicas=3)
    starts = [copper(), copper(2)]
    plan = md.plan_replicas(starts, explore, 7, "it01")
    assert [r.id for r in plan] == [f"it01-md{i:02d}" for i in range(12)]
    assert len({r.seed for r in plan}) == 12
    assert Counter((r.start_name, r.temperature_K) for r in plan) == {
        (name, t): 3 for name in ("Cu1", "Cu2") for t in (300.0, 900.0)
    }
    again = md.plan_replicas([*starts, copper(3)], explore, 7, "it01")
    assert [(r.id, r.seed) for r in again[:12]] == [(r.id, r.seed) for r in plan]
    assert md.plan_replicas(starts, explore, 8, "it01")[0].seed != plan[0].seed
    assert md.plan_replicas([bulk("Cu")], explore, 7, "x")[0].start_name == "start0"
    assert md.plan_replicas(starts * 40, explore, 7, "x")[99].id == "x-md099"


def test_stacked_nve_is_bitwise_serial_ase(tmp_path):
    explore = settings(ensemble="nve", temperatures_K=(300.0, 700.0), timestep_fs=2.0)
    starts = [copper(1), copper(2)]
    result = walk(tmp_path, starts, explore)
    assert len(result.frames) == 16
    for replica in md.plan_replicas(starts, explore, 1, "it00"):
        atoms = replica.start.copy()
        hot_K = replica.temperature_K * explore.initial_temperature_factor
        atoms.set_momenta(initial_momenta(atoms, hot_K, np.random.Generator(np.random.PCG64(replica.seed))))
        atoms.calc = Fresh()
        dynamics = VelocityVerlet(atoms, timestep=2.0 * units.fs)
        for frame in by_replica(result.frames)[replica.id]:
            dynamics.run(5)
            assert np.array_equal(frame.positions, atoms.positions)
            assert np.array_equal(frame.arrays["MD_forces"], atoms.get_forces())
            assert frame.info["MD_energy"] == atoms.get_potential_energy()


class Fresh(EMT):
    """EMT whose neighbour list holds no memory of the frame before."""

    def calculate(self, atoms=None, properties=("energy",), _system_changes=()):
        super().calculate(atoms, list(properties), ["positions", "numbers", "cell", "pbc"])


def test_nve_conserves_energy(tmp_path):
    explore = settings(ensemble="nve", n_steps=200, frame_every=1, timestep_fs=2.0)
    result = walk(tmp_path, [copper(2)], explore)
    x = np.array([f.positions for f in result.frames])
    velocities = (x[2:] - x[:-2]) / (2 * 2.0 * units.fs)
    kinetic = 0.5 * (copper(2).get_masses()[:, None] * velocities**2).sum(axis=(1, 2))
    total = kinetic + np.array([f.info["MD_energy"] for f in result.frames[1:-1]])
    assert np.ptp(total) < 0.02 * np.ptp(kinetic)


def test_frames_carry_the_potentials_own_labels_and_provenance(tmp_path):
    result = walk(tmp_path, [copper(2)], settings(temperatures_K=(500.0,), timestep_fs=0.5))
    assert [f.info["md_step"] for f in result.frames] == [5, 10, 15, 20]  # step 0 is the shared start
    labels = emt().compute(result.frames)
    for frame, label in zip(result.frames, labels, strict=True):
        assert frame.info["MD_energy"] == label.energy_eV
        assert np.array_equal(frame.arrays["MD_forces"], label.forces_eV_per_A)
    assert result.frames[1].info == {
        "frame_id": "it00-md00-000010", "start": "Cu2", "temperature_K": 500.0, "md_step": 10,
        "md_time_fs": 5.0, "replica": "it00-md00", "MD_energy": labels[1].energy_eV,
        "MD_kinetic_temperature_K": pytest.approx(700.0, abs=450.0),
    }  # fmt: skip
    assert result.frames[0].pbc.all()
    assert np.array_equal(result.frames[0].cell, copper(2).cell)


def test_langevin_replica_does_not_depend_on_its_neighbours(tmp_path):
    explore = settings(temperatures_K=(300.0, 900.0), replicas=2)
    starts = [copper(1), copper(2), copper(1, element="Al")]
    plan = md.plan_replicas(starts, explore, 3, "it00")
    together = by_replica(walk(tmp_path / "all", starts, explore, replicas=plan).frames)
    assert list(together) == [r.id for r in plan]
    for replica in plan[::3]:
        alone = walk(tmp_path / replica.id, starts, explore, replicas=[replica])
        same(alone.frames, together[replica.id])
    few = explore.model_copy(update={"max_batch_replicas": 5})
    same(walk(tmp_path / "few", starts, few, replicas=plan).frames, [f for fs in together.values() for f in fs])


@pytest.mark.parametrize("ensemble", ["nvt_langevin", "nvt_bussi"])
def test_thermostats_hold_each_replicas_temperature(tmp_path, ensemble):
    explore = settings(
        ensemble=ensemble, temperatures_K=(100.0, 400.0), n_steps=3000, frame_every=1, timestep_fs=4.0,
        friction_per_fs=0.02, initial_temperature_factor=1.5,
    )  # fmt: skip
    start = copper(2)
    potential = Springs(start.positions.copy(), adrift=ensemble == "nvt_bussi")
    frames = by_replica(walk(tmp_path, [start], explore, potential).frames)
    for replica, temperature_K in zip(sorted(frames), (100.0, 400.0), strict=True):
        x = np.array([f.positions for f in frames[replica]])[500:]
        velocities = (x[2:] - x[:-2]) / (2 * 4.0 * units.fs)
        twice_kinetic = (start.get_masses()[:, None] * velocities**2).sum(axis=(1, 2))
        dof = 3 * len(start) - (3 if ensemble == "nvt_bussi" else 0)  # Bussi keeps the drift at zero
        mean_K = twice_kinetic.mean() / (dof * units.kB)
        assert mean_K == pytest.approx(temperature_K, rel=0.08)


class Springs:
    """Each atom tied to its place by a spring; `adrift`: the places move along with all atoms."""

    name, n_parameters, batched, k = "springs", None, True, 2.0

    def __init__(self, places, adrift):
        self.places, self.adrift = places, adrift

    def compute(self, frames, **_options):
        return [self.one(atoms.positions - self.places) for atoms in frames]

    def one(self, away):
        away = away - away.mean(axis=0) if self.adrift else away
        return Prediction(0.5 * self.k * float((away**2).sum()), -self.k * away)


def test_initial_momenta_are_maxwell_boltzmann_without_drift():
    atoms = bulk("Cu", cubic=True).repeat(6)
    momenta = initial_momenta(atoms, 600.0, np.random.default_rng(0))
    assert np.allclose(momenta.sum(axis=0), 0)
    kinetic = (momenta**2 / (2 * atoms.get_masses()[:, None])).sum()
    assert kinetic == pytest.approx(1.5 * len(atoms) * units.kB * 600.0, rel=0.05)
    assert np.any(initial_momenta(Atoms("Cu"), 600.0, np.random.default_rng(0)))


def test_bussi_walks_one_replica_at_a_time(tmp_path):
    explore = settings(ensemble="nvt_bussi", temperatures_K=(300.0, 600.0), replicas=2)
    potential = Counting(EMT(), "emt")
    result = walk(tmp_path, [copper(1)], explore, potential)
    assert len(result.frames) == 16
    assert set(potential.sizes) == {1}
    plan = md.plan_replicas([copper(1)], explore, 1, "it00")
    same(walk(tmp_path / "one", [], explore, replicas=[plan[2]]).frames, by_replica(result.frames)[plan[2].id])


class Counting(AsePotential):
    """Notes how many frames it is asked for at a time."""

    batched = True

    def __init__(self, *args):
        super().__init__(*args)
        self.sizes = []

    def compute(self, frames, *, stress=False):
        self.sizes.append(len(frames))
        return super().compute(frames, stress=stress)


def test_fixed_atoms_stay_and_other_constraints_are_refused(tmp_path):
    held = copper(2)
    held.set_constraint(FixAtoms([0, 5]))
    result = walk(tmp_path, [copper(1), held], settings())
    for frame in result.frames:
        if len(frame) == len(held):
            assert np.array_equal(frame.positions[[0, 5]], held.positions[[0, 5]])
            assert np.any(frame.arrays["MD_forces"][0])  # labels are the potential's, not the constraint's
            assert not np.array_equal(frame.positions[1], held.positions[1])
    held.set_constraint(FixBondLengths([[0, 1]]))
    with pytest.raises(DataError, match="Cu2: constraint FixBondLengths"):
        md.plan_replicas([held], settings(), 0, "x")
    held.set_constraint(FixAtoms(range(len(held))))
    with pytest.raises(DataError, match="all its atoms are fixed"):
        md.plan_replicas([held], settings(), 0, "x")


def fail_frame(index, energy, forces):
    raise FrameFailed(index, "scf did not converge")


def fail_batch(index, energy, forces):
    raise RuntimeError("out of cheese")


def nan_forces(index, energy, forces):
    return Prediction(energy, forces * np.nan)


def nan_energy(index, energy, forces):
    return Prediction(np.nan, forces)


def huge_force(index, energy, forces):
    forces[-1, 1] = -61.0
    return Prediction(energy, forces)


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


def test_molecules_without_a_cell_walk(tmp_path):
    water = molecule("H2O")
    lj = AsePotential(LennardJones(epsilon=0.01, sigma=0.9, rc=5), "lj")
    result = walk(tmp_path, [water], settings(guard=Guard(min_distance_factor=0.2)), lj)
    assert len(result.frames) == 4
    assert result.stops == []


def test_folder_of_another_plan_is_refused(tmp_path):
    walk(tmp_path, [copper()], settings())
    with pytest.raises(WorkspaceError, match="holds MD of other starts"):
        walk(tmp_path, [copper()], settings(timestep_fs=2.0))
    (tmp_path / "state.npz").write_bytes(b"PK garbage")
    with pytest.raises(WorkspaceError, match=r"state\.npz: can't be read"):
        walk(tmp_path, [copper()], settings())


def test_progress_ends_at_all(tmp_path):
    seen = []
    explore = settings(replicas=3, max_batch_replicas=2)
    replicas = md.plan_replicas([copper()], explore, 0, "it00")
    md.run(emt(), replicas, explore, tmp_path, lambda *told: seen.append(told))
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[-1][:2] == (60, 60)
    assert seen[0] == (10, 60, "0 of 3 replicas done, 2 on their way")


def test_stepper_is_plain_ase_md():
    from ipip_ext.errors import StageFailed

    atoms = copper()
    atoms.calc = EMT()
    before = atoms.positions.copy()
    step = md.stepper(atoms)
    energy = atoms.get_total_energy()
    for _ in range(5):
        step()
    assert not np.array_equal(atoms.positions, before)
    assert atoms.get_total_energy() == pytest.approx(energy, abs=1e-3)
    iron = bulk("Fe", cubic=True)
    iron.calc = EMT()
    with pytest.raises(StageFailed, match="MD step failed: NotImplementedError"):
        md.stepper(iron)()


def test_stop_is_plain_data():
    stop = md.Stop("a", "b", 300.0, 5, "force", 61.0, 60.0, "s")
    assert dataclasses.asdict(stop)["reason"] == "force"
    assert new_generator(3).standard_normal() == new_generator(3).standard_normal()


# ---------------------------------------------------------------- full batches


class Shaky(Counting):
    """EMT that fails for Al from its tenth call on."""

    def compute(self, frames, *, stress=False):
        for index, atoms in enumerate(frames):
            if len(self.sizes) >= 10 and atoms.numbers[0] == 13:
                raise FrameFailed(index, "shaken")
        return super().compute(frames, stress=stress)


def test_the_batch_stays_full_and_no_walk_depends_on_it(tmp_path):
    starts = [copper(2), copper(1, element="Al"), copper(1), copper(1, seed=5)]
    explore = settings(replicas=2, max_batch_replicas=3, n_steps=20)
    plan = md.plan_replicas(starts, explore, 3, "it00")
    potential = Shaky(EMT(), "emt")
    result = walk(tmp_path / "few", starts, explore, potential, replicas=plan)
    assert {stop.start for stop in result.stops} == {"Al1"}
    walking = [size for size in potential.sizes if size > 2]  # two at most enter at once, after the first three
    assert set(walking) == {3}
    assert len(walking) >= 40  # two and a bit times the 20 steps
    frames = by_replica(result.frames)
    for replica in (plan[0], plan[4], plan[7]):
        same(frames[replica.id], walk(tmp_path / replica.id, starts, explore, replicas=[replica]).frames)


# ---------------------------------------------------------------- temperature


def test_a_ramp_is_followed_and_told(tmp_path):
    start = copper(2)
    for ensemble in ("nvt_langevin", "nvt_bussi"):
        explore = settings(
            ensemble=ensemble, temperatures_K=((100.0, 700.0), 100.0), n_steps=4000, frame_every=10, timestep_fs=4.0,
            friction_per_fs=0.02, initial_temperature_factor=1.0, replicas=4,
        )  # fmt: skip
        potential = Springs(start.positions.copy(), adrift=ensemble == "nvt_bussi")
        result = walk(tmp_path / ensemble, [start], explore, potential)
        frames = by_replica(result.frames)
        ramped = [frame for name in sorted(frames)[:4] for frame in frames[name]]
        assert all(f.info["temperature_K"] == pytest.approx(100 + 600 * f.info["md_step"] / 4000) for f in ramped)
        share = (3 * 8 - 3) / (3 * 8) if ensemble == "nvt_bussi" else 1.0
        for first in (500, 3500):
            some = [f for f in ramped if first <= f.info["md_step"] < first + 500]
            measured_K = np.mean([f.info["MD_kinetic_temperature_K"] for f in some]) / share
            assert measured_K == pytest.approx(np.mean([f.info["temperature_K"] for f in some]), rel=0.15)
        level = [frame.info["temperature_K"] for name in sorted(frames)[4:] for frame in frames[name]]
        assert set(level) == {100.0}


def test_langevin_samples_the_canonical_distribution_of_springs(tmp_path):
    """Mean and variance of kinetic and potential energy: N/2 and N/2 times kT, kT squared, for N = 3 n_atoms each."""
    start, temperature_K = copper(1, rattle=0.0), 300.0
    explore = settings(
        temperatures_K=(temperature_K,), n_steps=6000, frame_every=40, timestep_fs=2.0, friction_per_fs=0.02,
        initial_temperature_factor=1.0, replicas=24, guard=Guard(check_every=100),
    )  # fmt: skip
    result = walk(tmp_path, [start], explore, Springs(start.positions.copy(), adrift=False))
    frames = [f for f in result.frames if f.info["md_step"] > 1000]
    n, unit = 3 * len(start), units.kB * temperature_K
    kinetic = np.array([f.info["MD_kinetic_temperature_K"] for f in frames]) * units.kB * n / 2 / unit
    potential = np.array([f.info["MD_energy"] for f in frames]) / unit
    for energies in (kinetic, potential):
        own = energies.reshape(24, -1)  # replicas are independent, so their spread bounds the error honestly
        means, variances = own.mean(axis=1), own.var(axis=1)
        error = 4 / np.sqrt(24)
        assert means.mean() == pytest.approx(n / 2, abs=error * means.std(ddof=1))
        assert variances.mean() == pytest.approx(n / 2, abs=error * variances.std(ddof=1))
        assert means.std(ddof=1) < 0.1 * n  # and that bound is no empty one


# ---------------------------------------------------------------- starts without MD


def test_no_steps_keep_the_perturbed_starts(tmp_path):
    explore = settings(n_steps=0, strain=0.03, rattle_A=0.1, replicas=5, max_batch_replicas=2)
    potential = Counting(EMT(), "emt")
    result = walk(tmp_path, [copper(1)], explore, potential)
    plan = md.plan_replicas([copper(1)], explore, 1, "it00")
    assert potential.sizes == [2, 2, 1]
    assert [f.info["frame_id"] for f in result.frames] == [f"{r.id}-000000" for r in plan]
    for frame, replica, label in zip(result.frames, plan, emt().compute(result.frames), strict=True):
        assert np.array_equal(frame.positions, replica.start.positions)
        assert np.array_equal(frame.cell, replica.start.cell)
        assert not np.array_equal(frame.cell, copper(1).cell)
        assert frame.info["MD_energy"] == label.energy_eV
