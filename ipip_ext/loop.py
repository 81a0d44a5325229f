"""The spine: the whole method, top to bottom.

Source: Cui et al., "Iterative Pretraining Framework for Interatomic Potentials", arXiv:2507.20118.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ipip_ext import calculators
from ipip_ext.comparison import Contender, compare, run_baselines
from ipip_ext.recipe import Recipe
from ipip_ext.stages.committee import ask, committee
from ipip_ext.stages.correct import correct
from ipip_ext.stages.evaluate import evaluate
from ipip_ext.stages.explore import explore, sample
from ipip_ext.stages.export import export
from ipip_ext.stages.label import label
from ipip_ext.stages.pool import forget, select
from ipip_ext.stages.prepare import prepare
from ipip_ext.stages.train import finetune, pretrain
from ipip_ext.workspace import Done, Workspace

STAGES = (
    "prepare", "explore", "correct", "pretrain", "finetune", "evaluate", "sample", "select", "committee", "ask",
    "label", "forget", "model", "scratch", "stability", "calibration", "speed", "report",
)  # fmt: skip
"""Every stage, in the order in which a run first meets them."""


def run(recipe: Recipe, work: Workspace) -> Done:
    """Run every iteration of `recipe`, reusing whatever `work` already holds; return the report."""
    backend: dict[str, Any] = {"backend": recipe.backend}
    student: dict[str, Any] = {"student": recipe.student}
    teacher: dict[str, Any] = {"teacher": calculators.identity(recipe.teacher)}

    data = prepare_data(recipe, work)
    task = {"train": data.train, "valid": data.valid}
    ood = recipe.data.ood and recipe.data.ood.model_dump()
    exam = {"test": data.test, "ood": ood, "batch_size": recipe.evaluate.batch_size}
    starts, zeros = _starts(recipe, data), recipe.zeros_of_pretraining(data.e0s_eV)
    pool = work.do(explore, recipe.explore, **teacher, starts=data.starts)
    pool = work.do(correct, recipe.correct, **teacher, train=data.train, pool=pool.frames) if recipe.corrects else pool

    rounds: list[Round] = []
    model = voted = None
    for i in range(recipe.iterations):
        at = f"iter-{i:02d}"
        pretrained = work.do(
            pretrain, recipe.pretrain, at=at, **student, e0s_eV=zeros, model=model, pool=pool.frames
        )  # fmt: skip
        tuned = work.do(finetune, recipe.finetune, at=at, **student, model=pretrained.model, **task, pool=pool.frames)
        now = {**backend, "model": tuned.model}
        scores = work.do(evaluate, at=at, model=now, **exam, align=None)
        rounds.append(Round(at, pretrained, tuned, scores, task, pool))
        if i + 1 == recipe.iterations or not _still_pays(recipe, rounds):
            break
        walked = work.do(sample, recipe.sample or recipe.explore, at=at, **now, starts=starts, iteration=i)
        new = work.do(
            select, recipe.select, at=at, **now, frames=walked.frames, old=pool.frames, trusted=[starts, task["train"]]
        ).frames  # fmt: skip
        voted = _vote(recipe, work, rounds[-1]) if recipe.needs_committee else None
        if recipe.label.reference is not None and voted is not None:
            asked = _ask(recipe, work, rounds[-1], voted, new, data.test)
            task, new = {**task, "train": asked.train}, asked.rest
        pool = work.do(
            label, at=at, **now, **teacher, policy=recipe.label.policy, retain=recipe.label.retain, frames=new,
            old=pool.frames, valid=data.valid, committee=_opinion_of(voted),
            correction=rounds[0].pool.correction if recipe.corrects else None,
        )  # fmt: skip
        model = work.do(forget, recipe.forget.at(i), at=at, **now).model

    best = min(range(len(rounds)), key=lambda i: _valid_error(rounds[i].tuned))
    shown = _vote(recipe, work, rounds[best]) if recipe.committee.export else None
    work.do(
        export, at=":model", follows=True, **backend, model=rounds[best].tuned.model, iteration=best,
        committee=None if shown is None else {"members": shown.members, "calibration": shown.calibration},
    )  # fmt: skip
    iterations = {
        f"iteration-{i}": Contender("iteration", r.at, {**backend, "model": r.tuned.model}, r.scores)
        for i, r in enumerate(rounds)
    }
    ipip = replace(iterations[f"iteration-{best}"], role="ipip", stage="")
    baselines = run_baselines(recipe, work, e0s_eV=data.e0s_eV, task=task, exam=exam)
    contenders = {"ipip": ipip, **baselines, **iterations}
    return compare(recipe, work, contenders, data.starts, exam=exam, committee=shown or voted)


@dataclass(frozen=True)
class Round:
    """What an iteration had and made. task: its training and validation frames. pool: its pseudo-labels."""

    at: str
    pretrained: Done
    tuned: Done
    scores: Done
    task: Mapping[str, Any]
    pool: Done


def _vote(recipe: Recipe, work: Workspace, r: Round) -> Done:
    """Train the committee around the student of an iteration."""
    return work.do(
        committee, recipe.finetune, at=r.at, student=recipe.student, size=recipe.committee.size,
        bootstrap=recipe.committee.bootstrap, pretrained=r.pretrained.model, tuned=r.tuned.model, **r.task,
        pool=r.pool.frames,
    )  # fmt: skip


def _ask(recipe: Recipe, work: Workspace, r: Round, voted: Done, new: Any, test: Any) -> Done:
    """Have the frames that teach most labelled by the reference method."""
    wanted = recipe.label.reference
    assert wanted is not None
    return work.do(
        ask, wanted.asking, at=r.at, calculator=calculators.identity(wanted.calculator),
        teacher=calculators.identity(recipe.teacher), frames=new, members=voted.members, backend=voted.backend,
        **r.task, test=test,
    )  # fmt: skip


def _opinion_of(voted: Done | None) -> dict[str, Any] | None:
    return None if voted is None else {"members": voted.members, "error_per_spread": voted.error_per_spread}


def prepare_data(recipe: Recipe, work: Workspace) -> Done:
    """Read, check and split the task's frames."""
    data = recipe.data
    return work.do(
        prepare, data, train=data.train, test=data.test, valid=data.valid,
        starts=recipe.explore.starts, split_seed=recipe.seed,
    )  # fmt: skip


def _starts(recipe: Recipe, data: Done) -> object:
    """Return the student's own starts where the recipe names some, else the teacher's."""
    return recipe.sample.starts if recipe.sample is not None else data.starts


def _still_pays(recipe: Recipe, rounds: list[Round]) -> bool:
    """Whether the last iteration lowered the validation force error enough to go on."""
    if len(rounds) < 2 or recipe.min_improvement is None:
        return True
    before, now = (_valid_error(r.tuned) for r in rounds[-2:])
    return now < before * (1 - recipe.min_improvement)


def _valid_error(tuned: Done) -> float:
    return float(tuned.valid["force_mae_meV_per_A"])
