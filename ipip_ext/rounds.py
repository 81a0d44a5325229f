"""What the iterations of the loop hand on: who labels, the committee's opinion, bought labels, and which is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run.inputs import fields_of
from ipip_ext.run.stage import Done
from ipip_ext.run.workspace import Shelf, Workspace
from ipip_ext.stages.adapt import adapt
from ipip_ext.stages.committee import ask, committee
from ipip_ext.stages.correct import correct
from ipip_ext.stages.inputs import Batching, Candidates, Committee, Entry, Exam, Size, Student, Task, Voters
from ipip_ext.teachers import entries

Pool = TypeVar("Pool", Path, None)
"""File of pseudo-labelled frames, or none."""


@dataclass(frozen=True)
class Setting:
    """What all of a run shares: what was asked, where it is kept, the prepared data and the test that all take."""

    recipe: Recipe
    work: Workspace
    data: Done
    exam: Exam

    @property
    def teacher(self) -> Entry:
        """The teacher as it comes."""
        return self.calculator(self.recipe.teacher)

    def calculator(self, entry: Entry) -> Entry:
        """Return a calculator of the recipe as what decides its labels."""
        return entries.identity(entry, self.recipe.folder)  # type: ignore[no-any-return]

    def examined(self, at: str) -> Shelf:
        """Return where a model is set before the test frames; it is again where these or their splits have changed."""
        return self.work.at(at, yields_to=fields_of(self.exam))

    def student(self, trained: Done) -> Student:
        """Return what a training has made."""
        return Student(self.recipe.backend, trained.model)


@dataclass(frozen=True)
class MendedTeacher:
    """The teacher that makes pseudo-labels: its calculator entry, and what corrects it."""

    entry: Entry
    correction: Path | None = None


@dataclass(frozen=True)
class Beginning:
    """What an iteration begins with.

    task: its training and validation frames. pool: file of its pseudo-labelled frames. teacher: labels what it finds.
    model: the student that has forgotten, None for a new one.
    """

    task: Task
    pool: Path
    teacher: MendedTeacher
    model: Path | None = None


@dataclass(frozen=True)
class Round:
    """An iteration: what it began with and made. at: its place in the run folder."""

    at: str
    begun: Beginning
    pretrained: Done
    tuned: Done
    scores: Done


def mend(setting: Setting, task: Task, pool: Pool, at: str = "") -> tuple[MendedTeacher, Pool]:
    """Return the teacher, mended by the training frames as the recipe wants it, and `pool` with its labels."""
    recipe, teacher, place = setting.recipe, setting.teacher, setting.work.at(at)
    if recipe.adapt is not None:
        adapted = place.do(adapt, recipe.adapt, teacher=teacher, task=task, pool=pool)
        entry = setting.work.later(lambda a: setting.calculator({a.kind: str(a.file.resolve())}), adapted)
        return MendedTeacher(entry), None if pool is None else adapted.frames
    if recipe.corrects:
        fitted = place.do(correct, recipe.correct, teacher=teacher, train=task.train, pool=pool)
        return MendedTeacher(teacher, fitted.correction), None if pool is None else fitted.frames
    return MendedTeacher(teacher), pool


def vote(setting: Setting, r: Round) -> Done:
    """Train the committee around the student of an iteration."""
    recipe = setting.recipe
    return setting.work.at(r.at).do(
        committee,
        recipe.finetune,
        student=recipe.student,
        wanted=Size(recipe.committee.size, recipe.committee.bootstrap),
        pretrained=r.pretrained.model,
        tuned=r.tuned.model,
        task=r.begun.task,
        pool=r.begun.pool,
    )


def opinion_of(voted: Done | None) -> Committee | None:
    """Return a trained committee as those who label take it."""
    return None if voted is None else Committee(voted.members, voted.error_per_spread)


def ask_reference(setting: Setting, r: Round, voted: Done | None, new: Path) -> tuple[Beginning, Path]:
    """Have the frames that teach most labelled by the reference method, where the recipe names one.

    Return what the next iteration begins with so far, and which of the frames `new` are left to be labelled.
    """
    wanted = setting.recipe.label.reference
    if wanted is None or voted is None:
        return r.begun, new
    asked = setting.work.at(r.at).do(
        ask, wanted.asking, calculator=setting.calculator(wanted.calculator), teacher=setting.teacher,
        candidates=Candidates(new, r.begun.pool), voters=Voters(voted.members, voted.backend), task=r.begun.task,
        test=setting.exam.test, batching=Batching(wanted.frames_per_job),
    )  # fmt: skip
    task = replace(r.begun.task, train=asked.train)
    teacher, _ = mend(setting, task, None, r.at)
    return replace(r.begun, task=task, pool=asked.pool, teacher=teacher), asked.rest


def still_pays(recipe: Recipe, rounds: Sequence[Round]) -> bool:
    """Whether the last iteration lowered the validation force error enough to go on."""
    if len(rounds) < 2 or recipe.min_improvement is None:
        return True
    before, now = (_valid_error(r) for r in rounds[-2:])
    return now < before * (1 - recipe.min_improvement)


def best_of(rounds: Sequence[Round]) -> int:
    """Return the iteration with the lowest force error in validation."""
    return min(range(len(rounds)), key=lambda i: _valid_error(rounds[i]))


def _valid_error(r: Round) -> float:
    return float(r.tuned.valid["force_mae_meV_per_A"])
