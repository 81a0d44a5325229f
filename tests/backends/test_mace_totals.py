"""Energies of float32 students whose totals are those of all-electron codes: as fine as those of small ones."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces
from ase.md.verlet import VelocityVerlet
from tiny_mace import TINY

from ipip_ext import md
from ipip_ext.backends.base import FitData, FitJob
from ipip_ext.backends.committee import CommitteePotential
from ipip_ext.backends.conformance.task import alloy
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.backends.mace.model import Student, shift_e0s
from ipip_ext.data import frames as fr
from ipip_ext.md.replicas import initial_momenta
from ipip_ext.md.walkers import new_generator
from ipip_ext.recipe.training import Fit
from ipip_ext.recipe.walk import Explore

BACKEND = MaceBackend()
TOTALS_EV = (0.0, -1e4, -5e5)
"""Energy zeros of both elements, an atom."""

FINE_EV = 1e-5


def lifted(total_eV: float, seeds: range) -> list[Atoms]:
    """Return labelled cells, each atom's energy higher by `total_eV`."""
    frames = [alloy(seed) for seed in seeds]
    for frame in frames:
        frame.info[fr.ENERGY] += total_eV * len(frame)
    return frames


def trained(total_eV: float, folder: Path, dtype: str = "float32", **changes: float) -> Student:
    frames = lifted(total_eV, range(10))
    config = TINY.model_copy(update={"dtype": dtype})
    fresh = BACKEND.build(config, {"Cu": 0.0, "Al": 0.0}, frames, seed=1)
    settings = Fit.model_validate({"epochs": 20, "batch_size": 4, "lr": 0.02, "warmup_steps": 2} | changes)
    start = BACKEND.align_energies(fresh, frames[:8], "cpu")
    return BACKEND.fit(start, FitData(frames[:8], frames[8:]), settings, FitJob(1, folder, "cpu")).model


@pytest.fixture(scope="module")
def students(tmp_path_factory) -> dict[float, Student]:
    return {total: trained(total, tmp_path_factory.mktemp("fit")) for total in TOTALS_EV}


@pytest.fixture(params=TOTALS_EV)
def total_eV(request) -> float:
    return request.param


@pytest.fixture
def student(students, total_eV) -> Student:
    return students[total_eV]


def along(atoms: Atoms) -> list[Atoms]:
    """Return nine images with one atom moved by 0.00 to 0.08 A."""
    images = []
    for step in range(9):
        images.append(atoms.copy())
        images[-1].positions[1, 0] += 0.01 * step
    return images


def exact(student: Student) -> Student:
    """Return the same weights in float64."""
    config = student.spec.config.model_copy(update={"dtype": "float64"})
    return Student(replace(student.spec, config=config), student.clone().module.double())


def test_training_learns_the_same_whatever_the_totals(students):
    """The loss sees energies above zeros, subtracted in double: weights differ by rounding alone."""
    plain = BACKEND.parameters(students[0.0])
    for total in TOTALS_EV[1:]:
        for name, value in BACKEND.parameters(students[total]).items():
            assert np.allclose(value, plain[name], rtol=1e-3, atol=1e-4), name
        zeros = np.array(students[total].spec.e0s_eV) - np.array(students[0.0].spec.e0s_eV)
        assert zeros @ (1, 3) == pytest.approx(4 * total, abs=1e-4)  # all cells are AlCu3
    errors = [fr_errors(students[total], total) for total in TOTALS_EV]
    assert errors[1:] == pytest.approx([errors[0]] * 2, abs=0.1)


def fr_errors(student: Student, total_eV: float) -> float:
    """Return the mean energy error on labelled cells, meV/atom."""
    frames = lifted(total_eV, range(10))
    said = BACKEND.potential(student, "cpu").compute(frames)
    return 1e3 * float(np.mean([abs(p.energy_eV - f.info[fr.ENERGY]) / 4 for p, f in zip(said, frames, strict=True)]))


def test_a_moved_atom_changes_the_energy_smoothly(student, total_eV):
    """In calculator, batch, session and committee: what the same weights give in float64."""
    images = along(alloy(0))
    potential = BACKEND.potential(student, "cpu")
    right = np.array([p.energy_eV for p in BACKEND.potential(exact(student), "cpu").compute(images)])
    right -= right[0]
    assert right[-1] > 0.01
    calculator, alone = potential.calculator(), []
    for image in images:
        image.calc = calculator
        alone.append(image.get_potential_energy())
    committee = CommitteePotential([potential, BACKEND.potential(student, "cpu")], "committee")
    session = potential.session(images).compute(np.concatenate([image.positions for image in images]))[0]
    for energies in (
        alone,
        [p.energy_eV for p in potential.compute(images)],
        session,
        [p.energy_eV for p in committee.compute(images)],
    ):
        assert np.allclose(np.array(energies) - energies[0], right, rtol=0.02, atol=FINE_EV)
        assert energies[0] == pytest.approx(4 * total_eV, abs=50)


def test_numerical_forces_are_the_analytic_ones(student):
    atoms = alloy(3)
    atoms.calc = BACKEND.calculator(student, "cpu")
    assert np.allclose(calculate_numerical_forces(atoms, eps=1e-3), atoms.get_forces(), rtol=0, atol=0.005)


def test_nve_does_not_drift(student, tmp_path):
    """By ASE with the calculator, and by a session of MD."""
    atoms = alloy(2)
    atoms.calc = BACKEND.calculator(student, "cpu")
    atoms.set_momenta(initial_momenta(atoms, 300.0, new_generator(1)))
    kinetic, dynamics, totals = atoms.get_kinetic_energy(), VelocityVerlet(atoms, timestep=0.5 * units.fs), []
    for _ in range(200):
        dynamics.step()
        totals.append(atoms.get_total_energy())
    assert np.ptp(totals) < 0.05 * kinetic
    settings = Explore(starts=Path("unused"), ensemble="nve", temperatures_K=(300.0,), n_steps=200, timestep_fs=0.5)
    settings = settings.model_copy(update={"frame_every": 10})
    walks = md.plan_replicas([alloy(2)], settings, 1, "it00")
    frames = md.run(BACKEND.potential(student, "cpu"), walks, settings, tmp_path / "walk", lambda *_: None).frames
    moving = [1.5 * 4 * units.kB * frame.info["MD_kinetic_temperature_K"] for frame in frames]
    energies = np.array([frame.info["MD_energy"] for frame in frames]) + moving
    assert len(frames) == 20
    assert np.ptp(energies) < 0.05 * kinetic


def test_aligning_and_files_lose_nothing(student, total_eV, tmp_path):
    frames = lifted(total_eV + 0.123456789, range(6))
    aligned = BACKEND.align_energies(student, frames, "cpu")
    rest = [
        p.energy_eV - f.info[fr.ENERGY]
        for p, f in zip(BACKEND.potential(aligned, "cpu").compute(frames), frames, strict=True)
    ]
    assert abs(np.mean(rest)) < 0.05
    native = BACKEND.export(aligned, tmp_path)
    before = BACKEND.potential(aligned, "cpu").compute(frames)
    for again in (
        BACKEND.potential(BACKEND.load(tmp_path), "cpu"),
        BACKEND.foundation(str(native), "cpu"),
        BACKEND.potential(BACKEND.adopt(str(native), ["Cu"]), "cpu"),
    ):
        for one, other in zip(before, again.compute(frames), strict=True):
            assert other.energy_eV == pytest.approx(one.energy_eV, abs=1e-6)
            assert np.array_equal(one.forces_eV_per_A, other.forces_eV_per_A)
            assert other.energies_eV.sum() == pytest.approx(other.energy_eV, abs=1e-6)


def test_others_compute_with_the_exported_file_as_finely_in_float64(students, tmp_path):
    """MACE's own calculator, told to compute in float64, has the zeros whole."""
    native, images = BACKEND.export(students[-5e5], tmp_path), along(alloy(0))
    code = (
        "import sys, numpy as np, ase.io; from mace.calculators import MACECalculator;"
        "calc = MACECalculator(model_paths=sys.argv[1], device='cpu', default_dtype='float64');"
        "np.save(sys.argv[3], [calc.get_potential_energy(atoms) for atoms in ase.io.read(sys.argv[2], ':')])"
    )
    fr.write_frames(tmp_path / "in.extxyz", images)
    files = [str(native), str(tmp_path / "in.extxyz"), str(tmp_path / "out.npy")]
    subprocess.run([sys.executable, "-c", code, *files], check=True, capture_output=True)
    said = [p.energy_eV for p in BACKEND.potential(students[-5e5], "cpu").compute(images)]
    assert np.allclose(np.load(files[2]), said, rtol=0, atol=2e-5)


def test_ten_thousand_atoms_sum_as_finely_as_four(students):
    """A move of one atom costs the same in any cell, to what float32 knows of ten thousand atoms."""
    student = shift_e0s(students[0.0], dict.fromkeys((13, 29), -5e5))
    potential = BACKEND.potential(student, "cpu")
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
    atoms.symbols[1] = "Al"
    atoms = atoms.repeat((14, 14, 13))
    atoms.rattle(0.05, seed=1)
    assert len(atoms) > 10_000
    moved = atoms.copy()
    moved.positions[5] += (0.02, -0.01, 0.03)
    before, after = potential.compute([atoms, moved])
    middle = (before.forces_eV_per_A + after.forces_eV_per_A)[5] / 2
    assert after.energy_eV - before.energy_eV == pytest.approx(-middle @ (0.02, -0.01, 0.03), abs=5e-4)
    assert before.energies_eV.sum() == pytest.approx(before.energy_eV, abs=1e-3)
    assert before.energy_eV == pytest.approx(-5e5 * len(atoms), rel=1e-4)
