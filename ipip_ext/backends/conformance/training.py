"""Training: what is learnt, kept, stopped and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ase import Atoms

from ipip_ext.backends.base import FitHooks, Model
from ipip_ext.backends.conformance.task import Interrupted, Task, equal


class Training(Task):
    """A training learns, ends and resumes as the loop relies on."""

    def test_training_learns_and_leaves_its_input_alone(
        self, model: Model, frames: list[Atoms], tmp_path: Path
    ) -> None:
        before = self.backend.parameters(model)
        seen: list[tuple[str, int]] = []
        hooks = FitHooks(metric=lambda name, _value, step: seen.append((name, step)))
        result = self.fit(model, frames, tmp_path, hooks, epochs=12)
        assert equal(before, self.backend.parameters(model))
        assert result.valid["force_mae_meV_per_A"] < self.force_mae(model, frames[6:])
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
        assert equal(self.backend.parameters(straight.model), self.backend.parameters(resumed.model))

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
        assert result.valid["force_mae_meV_per_A"] == pytest.approx(self.force_mae(result.model, frames[6:]), rel=1e-6)
