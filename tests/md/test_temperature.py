"""Temperatures: of the first velocities, of thermostats, along ramps, and the distribution that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from walking import Springs, by_replica, copper, settings, walk

from ipip_ext.md.replicas import initial_momenta
from ipip_ext.recipe.walk import Guard


def test_initial_momenta_are_maxwell_boltzmann_without_drift():
    atoms = bulk("Cu", cubic=True).repeat(6)
    momenta = initial_momenta(atoms, 600.0, np.random.default_rng(0))
    assert np.allclose(momenta.sum(axis=0), 0)
    kinetic = (momenta**2 / (2 * atoms.get_masses()[:, None])).sum()
    assert kinetic == pytest.approx(1.5 * len(atoms) * units.kB * 600.0, rel=0.05)
    assert np.any(initial_momenta(Atoms("Cu"), 600.0, np.random.default_rng(0)))


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
