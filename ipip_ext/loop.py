"""The spine: the whole method, top to bottom.

Source: Cui et al., "Iterative Pretraining Framework for Interatomic Potentials", arXiv:2507.20118.
"""

from __future__ import annotations

from typing import Any

from ipip_ext import calculators
from ipip_ext.comparison import Contender, compare, run_baselines
from ipip_ext.recipe import Recipe
from ipip_ext.stages.evaluate import evaluate
from ipip_ext.stages.explore import explore, sample
from ipip_ext.stages.export import export
from ipip_ext.stages.pool import forget, label, select
from ipip_ext.stages.prepare import prepare
from ipip_ext.stages.train import finetune, pretrain
from ipip_ext.workspace import Done, Workspace

STAGES = (
    "prepare", "explore", "pretrain", "finetune", "evaluate", "sample", "select", "label", "forget",
    "model", "scratch", "speed", "report",
)  # fmt: skip
"""Every stage, in the order in which a run first meets them."""


def run(recipe: Recipe, work: Workspace) -> Done:
    """Run every iteration of `recipe`, reusing whatever `work` already holds; return the report."""
    backend: dict[str, Any] = {"backend": recipe.backend}
    student: dict[str, Any] = {"student": recipe.student}
    teacher: dict[str, Any] = {"teacher": calculators.identity(recipe.teacher)}

    data = _prepare(recipe, work)
    task = {"train": data.train, "valid": data.valid}
    ood = recipe.data.ood.model_dump() if recipe.data.ood else None
    exam = {"test": data.test, "ood": ood, "batch_size": recipe.evaluate.batch_size}
    pool = work.do(explore, recipe.explore, **teacher, starts=data.starts)

    finished: list[tuple[Done, Done]] = []
    model = None
    for i in range(recipe.iterations):
        at = f"iter-{i:02d}"
        pretrained = work.do(
            pretrain, recipe.pretrain, at=at, **student, e0s_eV=data.e0s_eV, model=model, pool=pool.frames
        )  # fmt: skip
        tuned = work.do(finetune, recipe.finetune, at=at, **student, model=pretrained.model, **task, pool=pool.frames)
        now = {**backend, "model": tuned.model}
        scores = work.do(evaluate, at=at, model=now, **exam, align=None)
        finished.append((tuned, scores))
        if i + 1 == recipe.iterations or not _still_pays(recipe, finished):
            break
        walked = work.do(
            sample, recipe.sample or recipe.explore, at=at, **now, starts=_starts(recipe, data), iteration=i
        )
        chosen = work.do(select, recipe.select, at=at, **now, frames=walked.frames, old=pool.frames)
        pool = work.do(label, recipe.label, at=at, **now, **teacher, frames=chosen.frames, old=pool.frames)
        model = work.do(forget, recipe.forget, at=at, **now).model

    best = min(range(len(finished)), key=lambda i: _valid_error(finished[i][0]))
    work.do(export, at=":model", follows=True, **backend, model=finished[best][0].model, iteration=best)
    rounds = {
        f"iteration-{i}": Contender("iteration", f"iter-{i:02d}", {**backend, "model": tuned.model}, scores)
        for i, (tuned, scores) in enumerate(finished)
    }
    chosen_one = rounds[f"iteration-{best}"]
    ipip = Contender("ipip", "", chosen_one.model, chosen_one.scores)
    baselines = run_baselines(recipe, work, e0s_eV=data.e0s_eV, task=task, exam=exam)
    return compare(recipe, work, {"ipip": ipip, **baselines, **rounds}, data.starts)


def _prepare(recipe: Recipe, work: Workspace) -> Done:
    data = recipe.data
    return work.do(
        prepare, data, train=data.train, test=data.test, valid=data.valid,
        starts=recipe.explore.starts, split_seed=recipe.seed,
    )  # fmt: skip


def _starts(recipe: Recipe, data: Done) -> object:
    """Return the student's own starts where the recipe names some, else the teacher's."""
    return recipe.sample.starts if recipe.sample is not None else data.starts


def _still_pays(recipe: Recipe, finished: list[tuple[Done, Done]]) -> bool:
    """Whether the last iteration lowered the validation force error enough to go on."""
    if len(finished) < 2 or recipe.min_improvement is None:
        return True
    before, now = (_valid_error(tuned) for tuned, _ in finished[-2:])
    return now < before * (1 - recipe.min_improvement)


def _valid_error(tuned: Done) -> float:
    return float(tuned.valid["force_mae_meV_per_A"])
