"""The contract of a student backend. It knows nothing of MACE, and the loop knows nothing else.

A backend turns a config into a model and does with it what the loop asks for. Models are opaque
to everyone but their backend. `testing.py` beside this file is the suite that every backend passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ipip_ext.errors import CalculatorError, RecipeError, did_you_mean
from ipip_ext.potentials.base import Potential
from ipip_ext.recipe.schema import Section
from ipip_ext.recipe.training import Fit

Model = Any
"""A backend's own model object."""


@dataclass(frozen=True)
class FitData:
    """Frames of one training, all with REF_* labels.

    replay: frames mixed into each batch, forces only; none by default.
    replay_fraction, replay_weight: share of a batch that is replayed, and its weight.
    """

    train: Sequence[Atoms]
    valid: Sequence[Atoms]
    replay: Sequence[Atoms] = ()
    replay_fraction: float = 0.0
    replay_weight: float = 1.0


@dataclass(frozen=True)
class FitHooks:
    """How a training speaks: a number an epoch, how far it is, and a line for the reader."""

    metric: Callable[[str, float, int], None] = lambda _name, _value, _step: None
    progress: Callable[[float, str], None] = lambda _share, _text: None
    note: Callable[[str], None] = lambda _text: None


@dataclass(frozen=True)
class FitJob:
    """What a training is given besides its model, frames and settings.

    seed: decides all that is random in it. folder: where its state is kept, for it to go on after a kill. device: as
    torch names it. hooks: how it speaks.
    """

    seed: int
    folder: Path
    device: str
    hooks: FitHooks = FitHooks()


@dataclass(frozen=True)
class Tuning:
    """How a foundation model is fine-tuned by a program of its makers; a method reads what is its own.

    See `recipe.baselines.Finetuned`, whose keys these are.
    """

    method: str
    freeze_to: str = "interactions"
    lora_rank: int = 4
    lora_alpha: float = 1.0
    n_replay: int = 0


@dataclass(frozen=True)
class FitResult:
    """The best model by validation loss, and how it got there."""

    model: Model
    best_epoch: int
    epochs: int
    steps: int
    valid: Mapping[str, float] = field(default_factory=dict)


class Backend(ABC):
    """Everything the loop may ask of a student."""

    name: str
    group_names: tuple[str, ...]
    """Parameter groups that `forget`, `freeze` and `lr_factors` know, among them `all`.
    Of two that hold the same parameters the later is the more specific one."""

    @abstractmethod
    def build(self, config: Section, e0s_eV: Mapping[str, float], frames: Sequence[Atoms], seed: int) -> Model:
        """Return a new model for the species of `e0s_eV`, normalised by statistics of labelled `frames`."""

    @abstractmethod
    def fit(self, model: Model, data: FitData, settings: Fit, job: FitJob) -> FitResult:
        """Train a copy of `model`. State is kept in `job.folder`: called again after a kill it goes on
        from the last finished epoch and, on CPU, ends with bitwise the same weights. Each parameter learns
        at its `lr_factors`; where that is 0 it stays bitwise what it is. Raises Diverged where a loss or a gradient
        is not finite.
        """

    @abstractmethod
    def align_energies(self, model: Model, frames: Sequence[Atoms], device: str) -> Model:
        """Return `model` with its energy zeros refitted to labelled `frames`; forces are unchanged."""

    @abstractmethod
    def potential(self, model: Model, device: str) -> Potential:
        """Return `model` as a batched Potential; one that `HasSessions` makes MD cheaper."""

    @abstractmethod
    def calculator(self, model: Model, device: str) -> Calculator:
        """Return `model` as an ASE calculator with energy, forces and stress."""

    @abstractmethod
    def descriptors(self, model: Model, frames: Sequence[Atoms], device: str) -> NDArray[np.float64]:
        """Return one invariant vector a frame, (n_frames, n_features)."""

    @abstractmethod
    def groups(self, model: Model) -> dict[str, tuple[str, ...]]:
        """Return the names of the parameters in each group of `group_names`."""

    def lr_factors(self, model: Model, settings: Fit) -> dict[str, float]:
        """Return what `lr_factors` does, of this model's groups."""
        return lr_factors(self.groups(model), settings)

    @abstractmethod
    def parameters(self, model: Model) -> dict[str, NDArray[Any]]:
        """Return copies of all trainable parameters by name."""

    @abstractmethod
    def forget(self, model: Model, groups: Sequence[str], keep: float, noise: float, seed: int) -> Model:
        """Return `model` with p <- keep*p + noise*fresh(seed) in `groups`; all else bitwise as it was."""

    @abstractmethod
    def save(self, model: Model, folder: Path) -> None:
        """Write `model` into `folder` without pickle."""

    @abstractmethod
    def load(self, folder: Path) -> Model:
        """Read what `save` wrote. Raises ModelFileError if it is missing or broken."""

    @abstractmethod
    def export(self, model: Model, folder: Path) -> Path:
        """Write `model` into `folder` as `save` does, and in the backend's native format; return that file."""

    def settle(
        self, model: Model, folder: Path, train: Sequence[Atoms], valid: Sequence[Atoms], device: str  # noqa: ARG002
    ) -> Path | None:  # fmt: skip
        """Write where an exported `model` is at home (`backends.home`) into its `folder`, for `load` to find.

        train: frames that it has learnt from. valid: frames that make the unit of distance.
        Returns the file, None if it can't be told.
        """
        return None

    @abstractmethod
    def foundation(self, name_or_file: str, device: str) -> Potential:
        """Return a pretrained model of this backend's kind. Raises CalculatorError."""

    def adopt(self, name_or_file: str, elements: Iterable[str]) -> Model:  # noqa: ARG002 - for those that can
        """Return the same pretrained model as one that `fit` takes, with its weights, species and dtype.

        It must know `elements`. Raises CalculatorError if it doesn't, or if this model can't be fine-tuned.
        """
        raise CalculatorError(f"{self.name}: can't fine-tune a foundation model; take the backend of {name_or_file}.")

    def tune_natively(
        self, model: Model, data: FitData, settings: Fit, tuning: Tuning, job: FitJob, log: Path,  # noqa: ARG002 - as above
    ) -> FitResult:  # fmt: skip
        """Fine-tune an adopted `model` by a program of its makers, after its energy zeros are fitted to `data.train`.

        data.replay: structures that it labels itself and goes on learning. State is kept in `job.folder`: called
        again after a kill it goes on from the best epoch; that is not exact. log: file to which the program's own
        words are appended. Raises StageFailed, with its last words, if it fails.
        """
        raise CalculatorError(f"{self.name}: knows no method {tuning.method}; take naive.")


def lr_factors(groups: Mapping[str, Sequence[str]], settings: Fit) -> dict[str, float]:
    """Return the factor on the learning rate of every parameter, by name; 0 where it is frozen.

    groups: names of the parameters in each group, among them `all`. Of the groups that hold a parameter and are named
    in `settings`, the smallest counts, and of equal ones the later.
    Raises RecipeError for an unknown group, and if nothing is left to train.
    """
    wanted, order = {**settings.lr_factors, **dict.fromkeys(settings.freeze, 0.0)}, list(groups)
    for group in wanted:
        if group not in groups:
            key = "freeze" if group in settings.freeze else "lr_factors"
            raise RecipeError(f"{key}: {group} is unknown.{did_you_mean(group, groups)}")
    factors = dict.fromkeys(groups["all"], 1.0)
    for group in sorted(wanted, key=lambda group: (-len(groups[group]), order.index(group))):
        factors |= dict.fromkeys(groups[group], wanted[group])
    if not any(factors.values()):
        raise RecipeError("freeze: nothing is left to train; take a group out, or give one a factor above 0.")
    return factors
