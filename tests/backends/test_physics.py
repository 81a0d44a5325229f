"""The physics of every student that is shipped, and of one that has learned something; in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from ipip_ext.backends.base import FitData, FitJob
from ipip_ext.backends.conformance.task import E0S_EV, alloy
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.md.replicas import initial_momenta
from ipip_ext.md.walkers import new_generator
from ipip_ext.recipe.file import load_recipe
from ipip_ext.recipe.students import MaceConfig
from ipip_ext.recipe.training import Fit

RECIPES = [p for p in sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml")) if p.parent.name != "places"]
BACKEND = MaceBackend()


def shipped() -> dict[str, MaceConfig]:
    """Return every student of the shipped recipes, each once, by the first recipe that has it, and the default."""
    students = {"default": MaceConfig(), **{path.stem: load_recipe(path).student for path in RECIPES}}
    return {name: s for i, (name, s) in enumerate(students.items()) if s not in list(students.values())[:i]}


def weighty(config: MaceConfig) -> object:
    """Return a fresh student in float64."""
    exact = config.model_copy(update={"dtype": "float64"})
    return BACKEND.build(exact, E0S_EV, [alloy(seed) for seed in range(3)], seed=7)


def compute(model: object, *frames: Atoms) -> list:
    return BACKEND.potential(model, "cpu").compute(frames)


@pytest.fixture(scope="module", params=list(shipped()))
def student(request) -> object:
    return weighty(shipped()[request.param])


def turned(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    """Return `atoms` and its cell under an orthogonal `matrix`."""
    other = atoms.copy()
    other.set_cell(atoms.cell.array @ matrix)
    other.positions = atoms.positions @ matrix
    return other


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "rotation with inversion"])
def test_energy_is_invariant_and_forces_turn_with_the_frame(student, improper):
    for seed in range(3):
        matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
        matrix *= np.sign(np.linalg.det(matrix)) * (-1 if improper else 1)
        before, after = compute(student, alloy(seed), turned(alloy(seed), matrix))
        assert np.linalg.det(matrix) == pytest.approx(-1 if improper else 1)
        assert after.energy_eV == pytest.approx(before.energy_eV, abs=1e-9)
        assert np.allclose(after.forces_eV_per_A, before.forces_eV_per_A @ matrix, rtol=0, atol=1e-8)
        assert np.abs(before.forces_eV_per_A).max() > 1e-3


def test_neither_order_nor_origin_nor_image_matters(student):
    atoms, rng = alloy(4, repeat=2), np.random.default_rng(0)
    order = rng.permutation(len(atoms))
    other = atoms[order]
    other.positions += rng.normal(0, 5, 3) + rng.integers(-1, 2, (len(atoms), 3)) @ atoms.cell.array
    before, after = compute(student, atoms, other)
    assert after.energy_eV == pytest.approx(before.energy_eV, abs=1e-8)
    assert np.allclose(after.forces_eV_per_A, before.forces_eV_per_A[order], rtol=0, atol=1e-8)
    assert np.allclose(before.forces_eV_per_A.sum(axis=0), 0, atol=1e-9)


def test_every_force_is_minus_the_slope_of_the_energy(student):
    atoms, step_A = alloy(5), 1e-4
    forces = compute(student, atoms)[0].forces_eV_per_A
    moved = []
    for index in np.ndindex(forces.shape):
        for sign in (1, -1):
            moved.append(atoms.copy())
            moved[-1].positions[index] += sign * step_A
    energies = np.array([said.energy_eV for said in compute(student, *moved)]).reshape(-1, 2)
    slopes = (energies[:, 1] - energies[:, 0]) / (2 * step_A)
    assert np.allclose(slopes.reshape(forces.shape), forces, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_student_that_has_learned_conserves_energy_the_better_the_finer_the_step(tmp_path):
    """The total energy of velocity Verlet wavers with the square of the step, if forces are the energy's gradient."""
    frames = [alloy(seed) for seed in range(24)]
    small = MaceConfig(hidden_irreps="8x0e+8x1o", max_ell=2, r_max_A=4.5, radial_MLP=(16,), MLP_irreps="8x0e")
    fresh = weighty(small)
    settings = Fit(epochs=25, batch_size=4, lr=0.02)
    result = BACKEND.fit(fresh, FitData(frames[:20], frames[20:]), settings, FitJob(1, tmp_path, "cpu"))
    errors = [
        np.mean([np.abs(p.forces_eV_per_A - f.arrays["REF_forces"]).mean() for p, f in
                 zip(compute(model, *frames[20:]), frames[20:], strict=True)])
        for model in (fresh, result.model)
    ]  # fmt: skip
    assert errors[1] < 0.5 * errors[0]
    wavers = {step_fs: waver_eV(result.model, step_fs) for step_fs in (0.5, 1.0, 2.0)}
    assert wavers[1.0] / wavers[0.5] == pytest.approx(4, rel=0.4)
    assert wavers[2.0] / wavers[1.0] == pytest.approx(4, rel=0.4)


def waver_eV(model: object, step_fs: float) -> float:
    """Return the standard deviation of the total energy over 200 fs at some 300 K; a drift would add to it."""
    atoms = alloy(30, repeat=2)
    atoms.calc = BACKEND.calculator(model, "cpu")
    atoms.set_momenta(initial_momenta(atoms, 300.0, new_generator(2)))
    dynamics, totals = VelocityVerlet(atoms, timestep=step_fs * units.fs), []
    for _ in range(round(200 / step_fs)):
        dynamics.step()
        totals.append(atoms.get_total_energy())
    assert abs(np.mean(totals[-10:]) - np.mean(totals[:10])) < 0.02 * atoms.get_kinetic_energy()
    return float(np.std(totals))
