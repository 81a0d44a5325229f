"""NPT: the right distribution, the right pressure, exact resume, and refusals in time."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.eos import EquationOfState
from walking import by_replica, copper, same, settings, walk

from ipip_ext import md
from ipip_ext.errors import CalculatorError, DataError
from ipip_ext.md import engine
from ipip_ext.potentials.base import Prediction
from ipip_ext.potentials.compute import require_stress
from ipip_ext.recipe.walk import Guard
from ipip_ext.teachers.ase_potential import AsePotential
from ipip_ext.teachers.correction.fitted import TeacherCorrection
from ipip_ext.teachers.correction.potential import CorrectedPotential


def npt(**changes):
    return settings(**{"ensemble": "npt", "barostat_time_fs": 400.0, "friction_per_fs": 0.02, **changes})


class Gas:
    """Atoms that feel nothing."""

    name, n_parameters, batched = "gas", None, True

    def compute(self, frames, *, stress=False):
        tensor = np.zeros((3, 3)) if stress else None
        return [Prediction(0.0, np.zeros((len(atoms), 3)), tensor) for atoms in frames]


def test_an_ideal_gas_has_its_distribution_of_volumes(tmp_path):
    """p(V) is in proportion to V^N exp(-PV/kT): mean (N+1) kT/P and variance (N+1) (kT/P)^2."""
    n, temperature_K, pressure_GPa = 8, 300.0, 0.2
    unit = units.kB * temperature_K / (pressure_GPa * units.GPa)
    side = ((n + 1) * unit) ** (1 / 3)
    rng = np.random.default_rng(0)
    gas = Atoms(f"Ar{n}", rng.uniform(0, side, (n, 3)), cell=[side] * 3, pbc=True)
    explore = npt(
        temperatures_K=(temperature_K,), pressure_GPa=pressure_GPa, n_steps=12000, frame_every=60, timestep_fs=10.0,
        initial_temperature_factor=1.0, barostat_time_fs=1500.0, friction_per_fs=0.005, replicas=4,
        guard=Guard(check_every=10**6, max_volume_factor=1e6, max_temperature_factor=1e6, min_distance_factor=0.02),
    )  # fmt: skip
    replicas = [  # placed at random, so the guard of vacuum has nothing to say here
        md.Replica(f"r{i}", gas, "gas", temperature_K, i, temperature_K) for i in range(explore.replicas)
    ]
    result = walk(tmp_path, [], explore, Gas(), replicas=replicas)
    assert not result.stops
    volumes = np.array([frame.get_volume() for frame in result.frames if frame.info["md_step"] > 2000]) / unit
    blocks = volumes[: len(volumes) // 20 * 20].reshape(20, -1)  # 20 ps each
    means, variances = blocks.mean(axis=1), blocks.var(axis=1)
    assert means.mean() == pytest.approx(n + 1, abs=4 * means.std(ddof=1) / np.sqrt(20))
    assert variances.mean() == pytest.approx(n + 1, abs=4 * variances.std(ddof=1) / np.sqrt(20) + 0.05 * (n + 1))
    assert means.std(ddof=1) / np.sqrt(20) < 0.05 * n
    temperatures_K = np.array([frame.info["MD_kinetic_temperature_K"] for frame in result.frames])
    assert temperatures_K.mean() == pytest.approx(temperature_K, rel=0.05)


def test_copper_under_pressure_shrinks_as_its_equation_of_state_says(tmp_path):
    lattices = np.linspace(3.4, 3.8, 9)
    cells = [bulk("Cu", cubic=True, a=a) for a in lattices]
    potential = AsePotential(EMT(), "emt")
    energies = [said.energy_eV for said in potential.compute(cells)]
    fit = EquationOfState([c.get_volume() for c in cells], energies)
    v0, _, bulk_modulus = fit.fit()
    pressure = 10 * units.GPa
    expected = v0 * (1 + 4.5 * pressure / bulk_modulus) ** (-1 / 4.5)  # Murnaghan, B' of a metal
    explore = npt(
        temperatures_K=(50.0,), pressure_GPa=10.0, n_steps=900, frame_every=5, timestep_fs=4.0,
        barostat_time_fs=300.0,
    )  # fmt: skip
    result = walk(tmp_path, [bulk("Cu", cubic=True).repeat((2, 1, 1))], explore)
    frames = [f for f in result.frames if f.info["md_step"] > 300]
    mean = np.mean([frame.get_volume() for frame in frames]) / 2
    assert mean == pytest.approx(expected, rel=0.015)
    assert mean < 0.96 * v0
    said = potential.compute(frames[:3], stress=True)
    for frame, label in zip(frames, said, strict=False):
        assert np.array_equal(frame.info["MD_stress"], label.stress_eV_per_A3)
        assert np.allclose(frame.cell.angles(), 90)


@pytest.mark.parametrize("dies", [3, 20, 41])
def test_a_killed_walk_is_resumed_exactly(tmp_path, monkeypatch, dies):
    class Mortal(AsePotential):
        calls = 0

        def compute(self, frames, *, stress=False):
            self.calls += 1
            if self.calls == dies:
                raise KeyboardInterrupt
            return super().compute(frames, stress=stress)

    explore = npt(n_steps=24, temperatures_K=((300.0, 600.0), 500.0), frame_every=3, pressure_GPa=2.0)
    whole = walk(tmp_path / "whole", [copper(1)], explore)
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path / "cut", [copper(1)], explore, Mortal(EMT(), "emt"))
    cut = walk(tmp_path / "cut", [copper(1)], explore)
    one = by_replica(whole.frames)
    assert len(one) == 2
    for a, b in zip(whole.frames, cut.frames, strict=True):
        assert np.array_equal(a.positions, b.positions)
        assert np.array_equal(a.cell, b.cell)
        assert np.array_equal(a.info["MD_stress"], b.info["MD_stress"])
    cells = {frame.cell.array.tobytes() for frame in whole.frames}
    assert len(cells) == len(whole.frames)
    plan = md.plan_replicas([copper(1)], explore, 1, "it00")
    alone = walk(tmp_path / "alone", [], explore, replicas=[plan[1]])
    for frame in (*alone.frames, *one[plan[1].id]):
        frame.info.pop("MD_stress")
    same(alone.frames, one[plan[1].id])


def test_a_cell_that_runs_away_is_stopped(tmp_path):
    explore = npt(pressure_GPa=-60.0, n_steps=2000, barostat_time_fs=100.0, guard=Guard(max_volume_factor=1.2))
    result = walk(tmp_path, [copper(1)], explore)
    (stop,) = result.stops
    assert (stop.reason, stop.limit) == ("volume", 1.2)
    assert stop.value > 1.2


def test_what_cannot_walk_so_is_refused_before(tmp_path):
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    held, open_ = copper(1), copper(1)
    held.set_constraint(FixAtoms([0]))
    open_.pbc = (True, True, False)
    slab.pbc = True
    for start, words in ((slab, "holds vacuum"), (held, "FixAtoms"), (open_, "periodic in all three")):
        with pytest.raises(DataError, match=words):
            walk(tmp_path, [start], npt())
    corrected = CorrectedPotential(AsePotential(EMT(), "emt"), TeacherCorrection("none", None, {}))
    with pytest.raises(CalculatorError, match="gives no stress, which ensemble npt needs"):
        require_stress(corrected, copper(1))
    assert not list(tmp_path.iterdir())
    require_stress(AsePotential(EMT(), "emt"), copper(1))
    assert len(walk(tmp_path / "md", [copper(1)], npt()).frames) == 4
