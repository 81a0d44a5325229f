"""The suite that every backend passes. A new backend inherits `BackendConformance` in one test class:

class TestMyBackend(BackendConformance):
    backend = MyBackend()
    config = MyConfig(...)          # float64, so that tolerances mean something
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from ipip_ext.backends.base import Backend, FitData, FitHooks, Model
from ipip_ext.data import frames as fr
from ipip_ext.errors import ModelFileError, RecipeError
from ipip_ext.potentials.base import HasSessions, Prediction
from ipip_ext.recipe.schema import Section
from ipip_ext.recipe.training import Fit

E0S_EV = {"Cu": -0.5, "Al": 0.25}


def alloy(seed: int, repeat: int = 1) -> Atoms:
    """Return a rattled Cu-Al cell of 4 atoms times repeat^3, labelled by EMT (a real potential, in ASE)."""
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
    atoms.symbols[1] = "Al"
    atoms = atoms.repeat(repeat)
    atoms.rattle(0.12, rng=np.random.default_rng(seed))
    atoms.calc = EMT()
    label = Prediction(atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False))
    frame = fr.labelled(atoms, label, "emt")
    frame.info[fr.ID] = f"alloy-{seed}"
    return frame


class Interrupted(Exception):
    """Ends a training from inside, as a kill would."""


class BackendConformance:
    """Behaviour that the loop relies on."""

    backend: ClassVar[Backend]
    config: ClassVar[Section]
    settings: ClassVar[Fit] = Fit(epochs=4, batch_size=3, lr=0.01, warmup_steps=2)

    @pytest.fixture(scope="class")
    def frames(self) -> list[Atoms]:
        """Eight labelled cells."""
        return [alloy(seed) for seed in range(8)]

    @pytest.fixture(scope="class")
    def model(self, frames: list[Atoms]) -> Model:
        """A fresh model."""
        return self.backend.build(self.config, E0S_EV, frames, seed=3)

    def fit(
        self, model: Model, frames: Sequence[Atoms], folder: Path, hooks: FitHooks | None = None, **changes: Any
    ) -> Any:
        """Train `model` for a few epochs."""
        settings = self.settings.model_copy(update=changes)
        data = FitData(frames[:6], frames[6:], replay=frames[:3], replay_fraction=0.3, replay_weight=0.5)
        return self.backend.fit(model, data, settings, seed=11, folder=folder, device="cpu", hooks=hooks or FitHooks())

    def one(self, model: Model, atoms: Atoms, *, stress: bool = False) -> Prediction:
        """Predict one frame."""
        return self.backend.potential(model, "cpu").compute([atoms], stress=stress)[0]

    # physics

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

    # prediction

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

    # building, forgetting, files

    def test_the_same_seed_builds_the_same_weights(self, model: Model, frames: list[Atoms]) -> None:
        again = self.backend.build(self.config, E0S_EV, frames, seed=3)
        other = self.backend.build(self.config, E0S_EV, frames, seed=4)
        assert _equal(self.backend.parameters(model), self.backend.parameters(again))
        assert not _equal(self.backend.parameters(model), self.backend.parameters(other))

    def test_groups_name_parameters_and_readouts_and_interactions_exist(self, model: Model) -> None:
        groups = self.backend.groups(model)
        assert set(groups) == set(self.backend.group_names)
        everything = set(self.backend.parameters(model))
        assert set(groups["all"]) == everything
        for names in groups.values():
            assert set(names) <= everything
        assert groups["readouts"]
        assert groups["interactions"]

    def test_forgetting_resets_its_groups_and_nothing_else(
        self, model: Model, frames: list[Atoms], tmp_path: Path
    ) -> None:
        trained = self.fit(model, frames, tmp_path).model
        chosen = ["readouts", "interactions"]
        once = self.backend.parameters(self.backend.forget(trained, chosen, 0.0, 1.0, seed=5))
        again = self.backend.parameters(self.backend.forget(trained, chosen, 0.0, 1.0, seed=5))
        before = self.backend.parameters(trained)
        forgotten = {name for group in chosen for name in self.backend.groups(trained)[group]}
        assert _equal(once, again)
        for name, value in before.items():
            assert np.array_equal(once[name], value) == (name not in forgotten), name
        hard = self.backend.parameters(self.backend.forget(trained, ["all"], 0.0, 1.0, seed=5))
        soft = self.backend.parameters(self.backend.forget(trained, ["all"], 0.4, 0.1, seed=5))
        for name, value in before.items():
            assert np.allclose(soft[name], 0.4 * value + 0.1 * hard[name], atol=1e-6)

    def test_forgetting_nothing_changes_nothing(self, model: Model) -> None:
        same = self.backend.forget(model, [], 0.0, 1.0, seed=5)
        assert _equal(self.backend.parameters(model), self.backend.parameters(same))

    def test_an_unknown_group_is_refused(self, model: Model) -> None:
        with pytest.raises(RecipeError, match="readouts"):
            self.backend.forget(model, ["readout"], 0.0, 1.0, seed=5)

    def test_saved_is_loaded_bitwise(self, model: Model, tmp_path: Path) -> None:
        self.backend.save(model, tmp_path)
        loaded = self.backend.load(tmp_path)
        assert _equal(self.backend.parameters(model), self.backend.parameters(loaded))
        before, after = self.one(model, alloy(7)), self.one(loaded, alloy(7))
        assert before.energy_eV == after.energy_eV
        assert np.array_equal(before.forces_eV_per_A, after.forces_eV_per_A)

    def test_broken_files_are_refused(self, model: Model, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="no such file"):
            self.backend.load(tmp_path / "nowhere")
        self.backend.save(model, tmp_path)
        for path in sorted(tmp_path.iterdir()):
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            with pytest.raises(ModelFileError, match=path.name):
                self.backend.load(tmp_path)
            path.write_bytes(whole)

    def test_aligned_energies_fit_and_forces_stay(self, model: Model, frames: list[Atoms]) -> None:
        aligned = self.backend.align_energies(model, frames, "cpu")
        rest = [self.one(aligned, f).energy_eV - f.info[fr.ENERGY] for f in frames]
        assert abs(float(np.mean(rest))) < 1e-6
        before, after = self.one(model, frames[0]), self.one(aligned, frames[0])
        assert np.allclose(before.forces_eV_per_A, after.forces_eV_per_A, atol=1e-12)

    # training

    def test_training_learns_and_leaves_its_input_alone(
        self, model: Model, frames: list[Atoms], tmp_path: Path
    ) -> None:
        before = self.backend.parameters(model)
        seen: list[tuple[str, int]] = []
        hooks = FitHooks(metric=lambda name, _value, step: seen.append((name, step)))
        result = self.fit(model, frames, tmp_path, hooks, epochs=12)
        assert _equal(before, self.backend.parameters(model))
        assert result.valid["force_mae_meV_per_A"] < _force_mae(self, model, frames[6:])
        assert [step for name, step in seen if name == "valid_force_mae_meV_per_A"] == list(range(12))
        assert {"train_loss", "lr", "valid_loss", "valid_energy_mae_meV_per_atom"} <= {name for name, _ in seen}

    @pytest.mark.parametrize(
        "changes",
        [{}, {"freeze": ("readouts",), "lr_factors": {"interactions": 0.3}}],
        ids=["plain", "groups"],
    )
    def test_a_killed_training_resumes_to_the_same_weights(
        self, model: Model, frames: list[Atoms], tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        straight = self.fit(model, frames, tmp_path / "straight", **changes)

        def kill(name: str, _value: float, step: int) -> None:
            if name == "valid_loss" and step == 2:
                raise Interrupted

        with pytest.raises(Interrupted):
            self.fit(model, frames, tmp_path / "killed", FitHooks(metric=kill), **changes)
        resumed = self.fit(model, frames, tmp_path / "killed", **changes)
        assert resumed.steps == straight.steps
        assert resumed.valid == straight.valid
        assert _equal(self.backend.parameters(straight.model), self.backend.parameters(resumed.model))

    @pytest.mark.parametrize("changes", [{"freeze": ("interactions",)}, {"lr_factors": {"interactions": 0.0}}])
    def test_frozen_groups_stay_bitwise_and_the_rest_learns(
        self, model: Model, frames: list[Atoms], tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        trained = self.fit(model, frames, tmp_path, weight_decay=0.01, **changes).model
        before, after = self.backend.parameters(model), self.backend.parameters(trained)
        frozen = set(self.backend.groups(model)["interactions"])
        for name, value in before.items():
            assert np.array_equal(after[name], value) == (name in frozen), name
        free = self.backend.parameters(self.fit(trained, frames, tmp_path / "free").model)
        assert not any(np.array_equal(free[name], value) for name, value in after.items())

    def test_a_factor_scales_the_first_step(self, model: Model, frames: list[Atoms], tmp_path: Path) -> None:
        one_step: dict[str, Any] = {"epochs": 1, "batch_size": 20, "warmup_steps": 0, "ema_decay": None}
        before = self.backend.parameters(model)
        whole, half = (
            self.backend.parameters(self.fit(model, frames, tmp_path / name, **one_step, lr_factors=factors).model)
            for name, factors in (("whole", {}), ("half", {"readouts": 0.5}))
        )
        slow = set(self.backend.groups(model)["readouts"])
        for name, value in before.items():
            factor = 0.5 if name in slow else 1.0
            assert not np.array_equal(whole[name], value), name
            assert np.allclose(half[name] - value, factor * (whole[name] - value), rtol=1e-5, atol=1e-12), name

    def test_the_most_specific_group_decides(self, model: Model) -> None:
        groups = self.backend.groups(model)
        for settings in (
            Fit(freeze=("all",), lr_factors={"interactions": 0.5}),
            Fit(lr_factors={"interactions": 0.5, "all": 0.0}),
        ):
            expected = dict.fromkeys(groups["all"], 0.0) | dict.fromkeys(groups["interactions"], 0.5)
            assert self.backend.lr_factors(model, settings) == expected
        assert self.backend.lr_factors(model, Fit()) == dict.fromkeys(groups["all"], 1.0)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            (Fit(freeze=("readout",)), "freeze: readout is unknown. Did you mean readouts?"),
            (Fit(lr_factors={"readout": 0.1}), "lr_factors: readout is unknown. Did you mean readouts?"),
            (Fit(freeze=("all",)), "nothing is left to train"),
            (Fit(lr_factors={"all": 0.0}), "nothing is left to train"),
            (Fit(freeze=("all", "interactions"), lr_factors={"readouts": 0.0}), "nothing is left to train"),
        ],
    )
    def test_groups_that_make_no_training_are_refused(
        self, model: Model, frames: list[Atoms], tmp_path: Path, settings: Fit, words: str
    ) -> None:
        with pytest.raises(RecipeError, match=re.escape(words)):
            self.backend.lr_factors(model, settings)
        with pytest.raises(RecipeError, match=re.escape(words)):
            self.fit(model, frames, tmp_path, freeze=settings.freeze, lr_factors=settings.lr_factors)

    def test_few_frames_are_seen_for_as_many_steps_as_asked(
        self, model: Model, frames: list[Atoms], tmp_path: Path
    ) -> None:
        result = self.fit(model, frames, tmp_path, epochs=1, min_steps=7)
        assert (result.epochs, result.steps) == (3, 9)  # six frames, two and a replayed one in a step

    def test_patience_stops_training(self, model: Model, frames: list[Atoms], tmp_path: Path) -> None:
        result = self.fit(model, frames, tmp_path, epochs=50, patience=2, lr=1e-30, ema_decay=None)
        assert result.epochs < 50

    def test_the_best_epoch_is_kept(self, model: Model, frames: list[Atoms], tmp_path: Path) -> None:
        losses: dict[int, float] = {}

        def note(name: str, value: float, step: int) -> None:
            if name == "valid_loss":
                losses[step] = value

        result = self.fit(model, frames, tmp_path, FitHooks(metric=note), epochs=8, lr=0.05)
        assert result.best_epoch == min(losses, key=losses.__getitem__)
        assert result.valid["force_mae_meV_per_A"] == pytest.approx(
            _force_mae(self, result.model, frames[6:]), rel=1e-6
        )


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def _force_mae(suite: BackendConformance, model: Model, frames: Sequence[Atoms]) -> float:
    predicted = suite.backend.potential(model, "cpu").compute(frames)
    errors = [p.forces_eV_per_A - f.arrays[fr.FORCES] for p, f in zip(predicted, frames, strict=True)]
    return float(np.mean(np.abs(np.concatenate(errors)))) * 1e3
