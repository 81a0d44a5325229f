"""What every test of the suite stands on: a tiny real task, and the backend that is tried on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from numpy.typing import NDArray

from ipip_ext.backends.base import Backend, FitData, FitHooks, FitJob, FitResult, Model
from ipip_ext.data import frames as fr
from ipip_ext.potentials.base import Prediction
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


class Task:
    """The backend on trial, with what its tests share."""

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
    ) -> FitResult:
        """Train `model` for a few epochs."""
        settings = self.settings.model_copy(update=changes)
        data = FitData(frames[:6], frames[6:], replay=frames[:3], replay_fraction=0.3, replay_weight=0.5)
        return self.backend.fit(model, data, settings, FitJob(11, folder, "cpu", hooks or FitHooks()))

    def one(self, model: Model, atoms: Atoms, *, stress: bool = False) -> Prediction:
        """Predict one frame."""
        return self.backend.potential(model, "cpu").compute([atoms], stress=stress)[0]

    def force_mae(self, model: Model, frames: Sequence[Atoms]) -> float:
        """Return the force MAE of `model` on labelled frames, meV/Angstrom."""
        predicted = self.backend.potential(model, "cpu").compute(frames)
        errors = [p.forces_eV_per_A - f.arrays[fr.FORCES] for p, f in zip(predicted, frames, strict=True)]
        return float(np.mean(np.abs(np.concatenate(errors)))) * 1e3


def equal(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> bool:
    """Return whether two sets of parameters are bitwise the same."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
