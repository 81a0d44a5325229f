"""MD: physics, independence of replicas, frames, full batches."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms, FixBondLengths
from ase.md.verlet import VelocityVerlet
from walking import Counting, by_replica, copper, emt, same, settings, walk

from ipip_ext import md
from ipip_ext.errors import DataError, WorkspaceError
from ipip_ext.md.replicas import initial_momenta
from ipip_ext.md.walkers import new_generator
from ipip_ext.potentials.base import FrameFailed
from ipip_ext.recipe.walk import Guard
from ipip_ext.teachers.ase_potential import AsePotential


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


def test_bussi_walks_one_replica_at_a_time(tmp_path):
    explore = settings(ensemble="nvt_bussi", temperatures_K=(300.0, 600.0), replicas=2)
    potential = Counting(EMT(), "emt")
    result = walk(tmp_path, [copper(1)], explore, potential)
    assert len(result.frames) == 16
    assert set(potential.sizes) == {1}
    plan = md.plan_replicas([copper(1)], explore, 1, "it00")
    same(walk(tmp_path / "one", [], explore, replicas=[plan[2]]).frames, by_replica(result.frames)[plan[2].id])


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
