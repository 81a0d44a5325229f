"""The spine: the whole method, top to bottom.

Source: Cui et al., "Iterative Pretraining Framework for Interatomic Potentials", arXiv:2507.20118.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ipip_ext.baselines import Contender, compare, run_baselines
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.rounds import MendedTeacher, Round, ask_reference, best_of, mend, opinion_of, still_pays, vote
from ipip_ext.run.workspace import Done, Workspace
from ipip_ext.stages.evaluate import evaluate
from ipip_ext.stages.explore import explore, sample
from ipip_ext.stages.export import export
from ipip_ext.stages.label import label
from ipip_ext.stages.pool import forget, select
from ipip_ext.stages.prepare import prepare
from ipip_ext.stages.train import finetune, pretrain
from ipip_ext.teachers import entries

STAGES = (
    "prepare", "explore", "adapt", "correct", "pretrain", "finetune", "evaluate", "sample", "select", "committee",
    "ask", "label", "forget", "model", "scratch", "tune_foundation", "tune_natively", "stability", "properties",
    "trajectory_properties", "calibration", "speed", "report",
)  # fmt: skip
"""Every stage, in the order in which a run first meets them."""


def run(recipe: Recipe, work: Workspace) -> Done:
    """Run every iteration of `recipe`, reusing whatever `work` already holds; return the report."""
    backend: dict[str, Any] = {"backend": recipe.backend}

    data = prepare_data(recipe, work)
    task = {"train": data.train, "valid": data.valid}
    ood = recipe.data.ood and recipe.data.ood.model_dump()
    exam = {"test": data.test, "ood": ood, "batch_size": recipe.evaluate.batch_size}
    given = entries.identity(recipe.teacher, recipe.folder)
    mended, pool = mend(recipe, work, task, work.do(explore, recipe.explore, teacher=given, starts=data.starts))
    assert pool is not None
    rounds, voted = iterate(recipe, work, data, exam, task=task, pool=pool, mended=mended)

    best = best_of(rounds)
    shown = vote(recipe, work, rounds[best]) if recipe.committee.export else None
    work.do(
        export, at=":model", follows=True, **backend, model=rounds[best].tuned.model, iteration=best,
        committee=None if shown is None else {"members": shown.members, "calibration": shown.calibration},
    )  # fmt: skip
    iterations = {
        f"iteration-{i}": Contender("iteration", r.at, {**backend, "model": r.tuned.model}, r.scores)
        for i, r in enumerate(rounds)
    }
    ipip = replace(iterations[f"iteration-{best}"], role="ipip", stage="")

    def no_forget(scope: str) -> list[Round]:
        first, second = rounds[:2]  # weights aside, what the second began with was made before any forgetting
        return iterate(
            recipe, work, data, exam, task=second.task, pool=second.pool, mended=mended, model=first.tuned.model,
            rounds=[first], forgets=False, scope=scope,
        )[0]  # fmt: skip

    baselines = run_baselines(recipe, work, rounds, no_forget, mended=mended, e0s_eV=data.e0s_eV, exam=exam)
    contenders = {"ipip": ipip, **baselines, **iterations}
    return compare(recipe, work, contenders, data.starts, exam=exam, committee=shown or voted)


def iterate(
    recipe: Recipe, work: Workspace, data: Done, exam: Mapping[str, Any], *, task: Mapping[str, Any], pool: Done,
    mended: MendedTeacher, model: Path | None = None, rounds: Sequence[Round] = (), forgets: bool = True,
    scope: str = "",
) -> tuple[list[Round], Done | None]:  # fmt: skip
    """Run the iterations after `rounds`; return all, and the last committee that had a say.

    task, pool, mended, model: what the next one begins with; no model: a new student. scope: start of the names of
    its folders.
    """
    backend: dict[str, Any] = {"backend": recipe.backend}
    student: dict[str, Any] = {"student": recipe.student}
    starts, zeros = _starts(recipe, data), recipe.zeros_of_pretraining(data.e0s_eV)
    rounds, voted = list(rounds), None
    for i in range(len(rounds), recipe.iterations):
        at = f"{scope}iter-{i:02d}"
        pretrained = work.do(
            pretrain, recipe.pretrain, at=at, **student, e0s_eV=zeros, model=model, pool=pool.frames
        )  # fmt: skip
        tuned = work.do(finetune, recipe.finetune, at=at, **student, model=pretrained.model, **task, pool=pool.frames)
        now = {**backend, "model": tuned.model}
        scores = work.do(evaluate, at=at, model=now, **exam, align=None)
        rounds.append(Round(at, pretrained, tuned, scores, task, pool))
        if i + 1 == recipe.iterations or not still_pays(recipe, rounds):
            break
        walked = work.do(sample, recipe.sample or recipe.explore, at=at, **now, starts=starts, iteration=i)
        new = work.do(
            select, recipe.select, at=at, **now, frames=walked.frames, old=pool.frames, trusted=[starts, task["train"]]
        ).frames  # fmt: skip
        voted = vote(recipe, work, rounds[-1]) if recipe.needs_committee else None
        old = pool.frames
        if recipe.label.reference is not None and voted is not None:
            asked = ask_reference(recipe, work, rounds[-1], voted, new, data.test)
            task, new, old = {**task, "train": asked.train}, asked.rest, asked.pool
            mended, _ = mend(recipe, work, task, None, at)
        pool = work.do(
            label, at=at, **now, teacher=mended.entry, correction=mended.correction,
            policy=recipe.label.policy, retain=recipe.label.retain, relabel=recipe.label.relabel, frames=new, old=old,
            valid=data.valid, committee=opinion_of(voted),
        )  # fmt: skip
        model = work.do(forget, recipe.forget.at(i), at=at, **now).model if forgets else tuned.model
    return rounds, voted


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
