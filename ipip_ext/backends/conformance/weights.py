"""Building, parameter groups, forgetting and energy zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from ipip_ext.backends.base import Model
from ipip_ext.backends.conformance.task import E0S_EV, Task, equal
from ipip_ext.data import frames as fr
from ipip_ext.errors import RecipeError


class Weights(Task):
    """A model's weights are those that were asked for."""

    def test_the_same_seed_builds_the_same_weights(self, model: Model, frames: list[Atoms]) -> None:
        again = self.backend.build(self.config, E0S_EV, frames, seed=3)
        other = self.backend.build(self.config, E0S_EV, frames, seed=4)
        assert equal(self.backend.parameters(model), self.backend.parameters(again))
        assert not equal(self.backend.parameters(model), self.backend.parameters(other))

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
        assert equal(once, again)
        for name, value in before.items():
            assert np.array_equal(once[name], value) == (name not in forgotten), name
        hard = self.backend.parameters(self.backend.forget(trained, ["all"], 0.0, 1.0, seed=5))
        soft = self.backend.parameters(self.backend.forget(trained, ["all"], 0.4, 0.1, seed=5))
        for name, value in before.items():
            assert np.allclose(soft[name], 0.4 * value + 0.1 * hard[name], atol=1e-6)

    def test_forgetting_nothing_changes_nothing(self, model: Model) -> None:
        same = self.backend.forget(model, [], 0.0, 1.0, seed=5)
        assert equal(self.backend.parameters(model), self.backend.parameters(same))

    def test_an_unknown_group_is_refused(self, model: Model) -> None:
        with pytest.raises(RecipeError, match="readouts"):
            self.backend.forget(model, ["readout"], 0.0, 1.0, seed=5)

    def test_aligned_energies_fit_and_forces_stay(self, model: Model, frames: list[Atoms]) -> None:
        aligned = self.backend.align_energies(model, frames, "cpu")
        rest = [self.one(aligned, f).energy_eV - f.info[fr.ENERGY] for f in frames]
        assert abs(float(np.mean(rest))) < 1e-6
        before, after = self.one(model, frames[0]), self.one(aligned, frames[0])
        assert np.allclose(before.forces_eV_per_A, after.forces_eV_per_A, atol=1e-12)
