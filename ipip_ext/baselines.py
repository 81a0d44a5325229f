"""What the student is set beside: baselines, trained or taken as they come, and evaluated like the student."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ipip_ext.contenders import Contender
from ipip_ext.recipe.baselines import (
    AdaptedBaseline,
    Baseline,
    CalculatorBaseline,
    Conventional,
    Distilled,
    Finetuned,
    NoForget,
    Scratch,
    TeacherBaseline,
)
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.rounds import MendedTeacher, Round, Setting, best_of
from ipip_ext.run.stage import Done
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.evaluate import evaluate
from ipip_ext.stages.inputs import Calculator, Entry, Model, Student, Task
from ipip_ext.stages.train import scratch, tune_foundation, tune_natively
from ipip_ext.teachers import entries

Unforgotten = Callable[[str], Sequence[Round]]
"""Runs the iterations without forgetting, in folders that begin with its argument."""


class _Made(NamedTuple):
    """The model of a baseline. align: training frames to whose zeros its energies are shifted, None for a student's."""

    model: Model
    align: Path | None = None
    title: str = ""
    elements: Sequence[str] | None = None


def run_baselines(
    setting: Setting, rounds: Sequence[Round], teacher: MendedTeacher, no_forget: Unforgotten
) -> dict[str, Contender]:
    """Train and evaluate every baseline of the recipe; return them by what tables call them.

    rounds: the iterations of the run. teacher: of the first one.
    """
    found: dict[str, Contender] = {}
    for baseline in setting.recipe.baselines:
        at, made = f"baseline-{baseline.name}", _make(setting, baseline, rounds, teacher, no_forget)
        # only a model that knows some elements alone says so, lest the stages of all others be recorded anew
        known = {} if made.elements is None else {"elements": made.elements}
        scores = setting.examined(at).do(evaluate, model=made.model, exam=setting.exam, align=made.align, **known)
        found[made.title or baseline.name] = Contender(
            baseline.name, "baseline", at, at, made.model, scores, made.align is not None, made.elements
        )
    return found


def begin_baselines(setting: Setting, task: Task) -> None:
    """Begin what baselines need nothing of the iterations for, where there is room beside them."""
    recipe = setting.recipe
    if recipe.label.reference is None:  # else their training set is known only at the end
        for baseline in recipe.baselines:
            if isinstance(baseline, Scratch):
                train_scratch(recipe, setting.work, baseline, setting.data.e0s_eV, task)


def _make(
    setting: Setting, baseline: Baseline, rounds: Sequence[Round], teacher: MendedTeacher, no_forget: Unforgotten
) -> _Made:
    first, task = rounds[0], rounds[-1].begun.task

    def as_it_comes(entry: Entry) -> Model:
        return Model(Calculator(setting.calculator(entry)))

    match baseline:
        case Scratch():
            trained = train_scratch(setting.recipe, setting.work, baseline, setting.data.e0s_eV, task)
            made = _Made(Model(setting.student(trained)))
        case Finetuned():
            tuned = _train_finetuned(setting, baseline, task, first.begun.pool)
            made = _Made(Model(Student(tuned.backend, tuned.model)))
        case NoForget():
            unforgotten = no_forget(f"baseline-{baseline.name}/")
            best = setting.work.later(lambda made: setting.student(made[best_of(made)].tuned), unforgotten)
            made = _Made(Model(best))
        case Distilled():  # it has never seen an energy of the task
            made = _Made(Model(setting.student(first.pretrained)), task.train)
        case TeacherBaseline():
            name = f"teacher ({entries.describe(setting.recipe.teacher)})"
            made = _Made(as_it_comes(setting.recipe.teacher), task.train, name)
        case AdaptedBaseline():
            made = _Made(Model(Calculator(teacher.entry)), task.train)
        case CalculatorBaseline():
            made = _Made(as_it_comes(baseline.calculator), task.train)
        case Conventional():
            made = _Made(as_it_comes(baseline.calculator), task.train, elements=baseline.elements)
    return made


def train_scratch(recipe: Recipe, work: Workspace, baseline: Scratch, e0s_eV: Mapping[str, float], task: Task) -> Done:
    """Train the student's architecture on the task's labels alone."""
    return work.at(f"baseline-{baseline.name}").do(
        scratch, baseline.fit, student=recipe.student, e0s_eV=e0s_eV, task=task
    )


def _train_finetuned(setting: Setting, baseline: Finetuned, task: Task, pool: Path) -> Done:
    """Fine-tune a foundation model on the task's labels, by our own training or by its makers'.

    pool: of the first iteration, replayed where the recipe names nothing else.
    """
    here, foundation = setting.work.at(f"baseline-{baseline.name}"), setting.calculator(baseline.calculator)
    assert isinstance(foundation, Mapping)
    if baseline.method == "naive":
        return here.do(tune_foundation, baseline.fit, foundation=foundation, task=task)
    replay = baseline.replay or pool if baseline.method == "multihead" else None
    return here.do(tune_natively, baseline.fit, foundation=foundation, tuning=baseline.tuning, task=task, replay=replay)
