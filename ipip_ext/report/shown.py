"""What a report shows, as the stages before it have measured it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipip_ext.recipe.data import Ood
from ipip_ext.run.inputs import Inputs


@dataclass(frozen=True)
class Walks:
    """Stability of a model: shares of sane walks by metric, how many there were, of what length, and their file."""

    shares: Mapping[str, float]
    n_walks: int
    time_ps: float
    walks: Path


@dataclass(frozen=True)
class ShownModel:
    """A model of the comparison.

    role: ipip | iteration | baseline. stage: folder of its MLflow run. aligned: whether its energies were shifted to
    the task's zeros. panel: title of its parity plot. cost: see `timing.training_costs`. properties: see
    `property_curves`; curves: their files by kind.
    """

    role: str
    stage: str
    aligned: bool
    stability: Walks | None
    properties: Mapping[str, float]
    curves: Mapping[str, Path]
    cost: Mapping[str, Any]
    n_parameters: int | None
    n_frames: Mapping[str, int]
    panel: str

    @property
    def is_iteration(self) -> bool:
        """Whether it is a step on the way to the student."""
        return self.role == "iteration"


@dataclass(frozen=True)
class Scored:
    """What an evaluation left: errors of each frame, and its forces."""

    per_frame: Path
    forces: Path


@dataclass(frozen=True)
class Asked:
    """What all models were asked.

    partial: ids of the frames of each split that is some model's alone. split_keys, seed: of the bootstrap. sets: see
    `stages.inputs.Exam`.
    """

    test: Path
    ood: Ood | None
    partial: Mapping[str, Sequence[str]]
    split_keys: Sequence[str]
    seed: int
    sets: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Speed:
    """Of every model that could be timed: time of a step, memory; the main cell; rows of speed.csv."""

    md_step_ms: Mapping[str, float]
    peak_memory_MiB: Mapping[str, float | None]
    n_atoms: int
    formula: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Sureness:
    """A committee's calibration: place of the committee, and files of what validation and test frames say of it."""

    at: str
    valid: Path
    test: Path


@dataclass(frozen=True)
class Shown(Inputs):
    """All that a report is made of; models and scores by the models' names.

    A model that lacks `test` among its scores knows some elements only; one that `speed` lacks could not be timed.
    times: see `timing.times`. reference: what properties are compared with, in words; reference_curves: the files.
    about: see `about.about`. home: file that tells how far from home the student is; None: it can't tell.
    """

    models: Mapping[str, ShownModel]
    scores: Mapping[str, Scored]
    exam: Asked
    speed: Speed
    calibration: Sureness | None
    times: Sequence[Mapping[str, Any]]
    reference: Mapping[str, str]
    reference_curves: Mapping[str, Path]
    about: Mapping[str, Any]
    home: Path | None = None
