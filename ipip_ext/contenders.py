"""Who is compared: the student, its iterations and its baselines, each with what its evaluation left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.rounds import Round, Setting
from ipip_ext.run.stage import Done
from ipip_ext.stages.inputs import Model


@dataclass(frozen=True)
class Contender:
    """A model of the comparison.

    name: as a recipe calls it. role: ipip | iteration | baseline. at: where its stages are. stage: folder of its
    MLflow run. aligned: whether its energies were shifted to the task's zeros. elements: all that it knows; None: no
    limit.
    """

    name: str
    role: str
    at: str
    stage: str
    model: Model
    scores: Done
    aligned: bool = False
    elements: Sequence[str] | None = None

    @classmethod
    def iteration(cls, number: int, made: Round, setting: Setting) -> Contender:
        """Return the student of an iteration."""
        model = Model(setting.student(made.tuned))
        return cls(f"iteration-{number}", "iteration", made.at, made.at, model, made.scores)

    @property
    def is_partial(self) -> bool:
        """Whether test frames hold elements that it doesn't know, so that it has a split of its own."""
        return "test" not in self.scores.errors

    @property
    def of_split(self) -> str:
        """What follows its name in a plot of test frames: the split where that is not the whole of test."""
        return f", {next(iter(self.scores.errors))}" if self.is_partial else ""

    def knows(self, frames: Iterable[Atoms]) -> bool:
        """Return whether it knows all elements of `frames`."""
        return self.elements is None or fr.elements(frames) <= set(self.elements)


Contenders = Mapping[str, Contender]
"""By what tables call them, in the order of the tables."""
