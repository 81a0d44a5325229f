"""Batches, sessions, calculator and descriptors say the same as one frame by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ipip_ext.backends.base import Model
from ipip_ext.backends.conformance.task import Task, alloy
from ipip_ext.potentials.base import HasSessions


class Predictions(Task):
    """However it is asked, a model says the same."""

    def test_a_batch_equals_single_frames(self, model: Model) -> None:
        mixed = [alloy(1), alloy(2, repeat=2), alloy(3)]
        together = self.backend.potential(model, "cpu").compute(mixed)
        for atoms, prediction in zip(mixed, together, strict=True):
            alone = self.one(model, atoms)
            assert prediction.energy_eV == pytest.approx(alone.energy_eV, abs=1e-8)
            assert np.allclose(prediction.forces_eV_per_A, alone.forces_eV_per_A, atol=1e-8)

    def test_a_session_equals_computing_anew_and_remembers_nothing(self, model: Model) -> None:
        potential, frames = self.sessions(model), [alloy(1), alloy(2, repeat=2), alloy(3)]
        frames[2].pbc = (True, True, False)
        session, rng = potential.session(frames), np.random.default_rng(0)
        positions = np.concatenate([atoms.positions for atoms in frames])
        for step in range(25):
            positions = positions + rng.normal(0, 0.05, positions.shape)
            for atoms, own in zip(frames, np.split(positions, [4, 36]), strict=True):
                atoms.positions[:] = own
            energies, forces, failures = session.compute(positions)
            expected = potential.compute(frames)
            assert failures == {}
            assert np.allclose(energies, [p.energy_eV for p in expected], rtol=0, atol=1e-9)
            assert np.allclose(forces, np.concatenate([p.forces_eV_per_A for p in expected]), rtol=0, atol=1e-9)
            if step % 6 == 5:
                fresh = potential.session(frames).compute(positions)
                assert np.array_equal(energies, fresh[0])
                assert np.array_equal(forces, fresh[1])

    def test_a_frame_that_fails_in_a_session_costs_no_other(self, model: Model) -> None:
        frames = [alloy(seed) for seed in range(4)]
        frames[1].symbols[0] = "Xe"
        potential = self.sessions(model)
        session, good = potential.session(frames), [0, 2, 3]
        positions = np.concatenate([atoms.positions for atoms in frames])
        wild = positions.copy()
        wild[13, 1] = np.nan
        expected = potential.compute([frames[i] for i in good])
        for given, lost in ((wild, [1, 3]), (positions, [1]), (wild, [1, 3]), (positions, [1])):
            energies, forces, failures = session.compute(given)
            assert sorted(failures) == lost
            assert "Xe" in failures[1]
            for index, prediction in zip(good, expected, strict=True):
                if index not in lost:
                    assert energies[index] == pytest.approx(prediction.energy_eV, abs=1e-9)
                    own = forces[4 * index : 4 * index + 4]
                    assert np.allclose(own, prediction.forces_eV_per_A, rtol=0, atol=1e-9)
            assert np.isnan(energies[lost]).all()
            assert np.isnan(forces.reshape(4, 12)[lost]).all()

    def sessions(self, model: Model) -> Any:
        """Return the model as a potential with sessions; skips the test where the backend has none."""
        potential = self.backend.potential(model, "cpu")
        if not isinstance(potential, HasSessions):
            pytest.skip("this backend has no sessions; MD asks its potential to compute")
        return potential

    def test_the_calculator_agrees_with_the_potential(self, model: Model) -> None:
        atoms = alloy(4)
        expected = self.one(model, atoms, stress=True)
        atoms.calc = self.backend.calculator(model, "cpu")
        assert atoms.get_potential_energy() == pytest.approx(expected.energy_eV)
        assert np.allclose(atoms.get_forces(), expected.forces_eV_per_A)
        assert expected.stress_eV_per_A3 is not None
        assert np.allclose(atoms.get_stress(voigt=False), expected.stress_eV_per_A3)

    def test_descriptors_are_invariant_and_tell_frames_apart(self, model: Model) -> None:
        atoms = alloy(5)
        turned = atoms.copy()
        turned.rotate(50, (1, 1, 0), rotate_cell=True)
        same, other, different = self.backend.descriptors(model, [atoms, turned, alloy(6)], "cpu")
        assert np.allclose(same, other, atol=1e-6)
        assert np.abs(same - different).max() > 1e-4

    def test_a_prediction_leaves_the_frame_alone(self, model: Model) -> None:
        atoms = alloy(1)
        before = atoms.copy()
        self.one(model, atoms, stress=True)
        assert np.array_equal(atoms.positions, before.positions)
        assert np.array_equal(atoms.cell.array, before.cell.array)
