"""What travels from stage to stage, by name.

Bundles (`Inputs`) stand for inputs that go together; the other types are one input each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipip_ext.recipe.data import Ood
from ipip_ext.run.inputs import Inputs, fields_of

Entry = str | Mapping[str, Any]
"""A calculator as a recipe names it, with what decides its labels (`teachers.entries.identity`)."""


@dataclass(frozen=True)
class Task(Inputs):
    """What the task's own labels are learnt from, and what chooses the epoch: files of labelled frames."""

    train: Path
    valid: Path


@dataclass(frozen=True)
class Exam(Inputs):
    """The frozen test set, which of its frames are out of distribution, and how many are evaluated at once.

    sets: how many of its frames, one set after the other, are of each named set; () where the recipe names none.
    """

    test: Path
    ood: Ood | None
    batch_size: int
    sets: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Student(Inputs):
    """A trained model: the name of its backend, and the folder that this has written."""

    backend: str
    model: Path


@dataclass(frozen=True)
class Learnt:
    """The task that a student was made with. It says of a stage's results nothing that the student's weights do not."""

    task: Task

    def fingerprint(self) -> None:
        """Return what decides results besides the student: nothing, so that what is finished without it stays valid."""


@dataclass(frozen=True)
class Settled(Inputs):
    """A finished student that tells where it is at home: its backend, and the file of that beside its others."""

    backend: str
    home: Path


@dataclass(frozen=True)
class Calculator:
    """A model that is no student."""

    calculator: Entry


@dataclass(frozen=True)
class Model:
    """Whatever labels frames and walks: what is evaluated, timed and compared. One input, whatever it is made of."""

    of: Student | Calculator

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides what it says."""
        return fields_of(self.of)


@dataclass(frozen=True)
class Committee:
    """Students with the same task: the folder of all, and what their spread is worth in force error."""

    members: Path
    error_per_spread: float


@dataclass(frozen=True)
class Exported:
    """A committee that is handed out with the student: its folder, and the file of its calibration."""

    members: Path
    calibration: Path


@dataclass(frozen=True)
class Voters(Inputs):
    """A committee whose opinion is asked."""

    members: Path
    backend: str


@dataclass(frozen=True)
class Candidates(Inputs):
    """Frames that may be labelled by the reference method: new ones without labels, and the pool with pseudo-labels."""

    frames: Path
    pool: Path


@dataclass(frozen=True)
class Batching:
    """How many frames one job labels, None for all; it decides no label, so it is no part of a fingerprint."""

    frames_per_job: int | None = None

    def fingerprint(self) -> dict[str, int]:
        """Return nothing."""
        return {}


AT_ONCE = Batching()
"""One job labels all."""


@dataclass(frozen=True)
class Labelling(Inputs):
    """How a recipe wants pseudo-labels: by whose policy, for what share of the old pool too, and for that anew."""

    policy: str
    retain: float
    relabel: bool = False


@dataclass(frozen=True)
class Labellers(Inputs):
    """Who may make pseudo-labels.

    correction: of all that the teacher says. committee: None where the policy asks none. valid: on which the teacher's
    error is measured.
    """

    student: Student
    teacher: Entry
    committee: Committee | None
    valid: Path
    correction: Path | None = None


@dataclass(frozen=True)
class Size(Inputs):
    """How many members a committee has, and whether each learns from a resample of its own."""

    size: int
    bootstrap: bool


@dataclass(frozen=True)
class Measuring(Inputs):
    """What a model's properties are measured on.

    trajectory: its first frame walks, not the starts. strained: labelled frames under strain, evaluated instead of the
    starts; label_keys: of their energy and forces.
    """

    starts: Path
    trajectory: Path | None
    strained: Path | None
    label_keys: Sequence[str]
    strains: Sequence[float]
    skip_ps: float
    rdf_max_A: float
