"""Symmetries and derivatives: what any potential must obey."""

from __future__ import annotations

import numpy as np
import pytest

from ipip_ext.backends.base import Model
from ipip_ext.backends.conformance.task import Task, alloy


class Physics(Task):
    """A model is a potential energy."""

    def test_forces_are_the_gradient_of_the_energy(self, model: Model) -> None:
        atoms, step = alloy(1), 1e-4
        forces = self.one(model, atoms).forces_eV_per_A
        for atom, axis in ((0, 0), (1, 2), (3, 1)):
            energies = []
            for sign in (-1, 1):
                moved = atoms.copy()
                moved.positions[atom, axis] += sign * step
                energies.append(self.one(model, moved).energy_eV)
            assert forces[atom, axis] == pytest.approx(-(energies[1] - energies[0]) / (2 * step), abs=1e-5)

    def test_stress_is_the_strain_derivative_of_the_energy(self, model: Model) -> None:
        atoms, step = alloy(1), 1e-4
        stress = self.one(model, atoms, stress=True).stress_eV_per_A3
        assert stress is not None
        energies = []
        for sign in (-1, 1):
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array * (1 + sign * step * np.eye(3)[0]), scale_atoms=True)
            energies.append(self.one(model, strained).energy_eV)
        assert stress[0, 0] == pytest.approx((energies[1] - energies[0]) / (2 * step) / atoms.get_volume(), abs=1e-5)

    def test_rotation_turns_the_forces(self, model: Model) -> None:
        atoms = alloy(2)
        turned = atoms.copy()
        turned.rotate(37, (1, 2, 3), rotate_cell=True)
        rotation = np.linalg.solve(atoms.cell.array, turned.cell.array)
        before, after = self.one(model, atoms), self.one(model, turned)
        assert after.energy_eV == pytest.approx(before.energy_eV, abs=1e-6)
        assert np.allclose(after.forces_eV_per_A, before.forces_eV_per_A @ rotation, atol=1e-6)

    def test_translation_and_permutation_change_nothing(self, model: Model) -> None:
        atoms = alloy(2)
        order = [2, 0, 3, 1]
        moved = atoms[order]
        moved.positions += (0.3, -7.0, 1.1)
        before, after = self.one(model, atoms), self.one(model, moved)
        assert after.energy_eV == pytest.approx(before.energy_eV, abs=1e-6)
        assert np.allclose(after.forces_eV_per_A, before.forces_eV_per_A[order], atol=1e-6)

    def test_energy_is_extensive(self, model: Model) -> None:
        atoms = alloy(2)
        double = atoms.repeat((2, 1, 1))
        assert self.one(model, double).energy_eV == pytest.approx(2 * self.one(model, atoms).energy_eV, abs=1e-6)
