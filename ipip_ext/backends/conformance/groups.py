"""Learning rates and freezing by group."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from ipip_ext.backends.base import Model
from ipip_ext.backends.conformance.task import Task
from ipip_ext.errors import RecipeError
from ipip_ext.recipe.training import Fit


class Groups(Task):
    """Each group of parameters learns as fast as the settings say."""

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
