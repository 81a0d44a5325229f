"""The spine: the whole method, top to bottom.

Source: Cui et al., "Iterative Pretraining Framework for Interatomic Potentials", arXiv:2507.20118.
"""

from __future__ import annotations

from typing import Any

from ipip_ext import calculators
from ipip_ext.recipe import Recipe, Scratch
from ipip_ext.stages.evaluate import evaluate
from ipip_ext.stages.explore import explore, sample
from ipip_ext.stages.export import export
from ipip_ext.stages.pool import forget, label, select
from ipip_ext.stages.prepare import prepare
from ipip_ext.stages.report import report
from ipip_ext.stages.speed import speed
from ipip_ext.stages.train import finetune, pretrain, scratch
from ipip_ext.workspace import Done, Workspace

STAGES = (
    "prepare", "explore", "pretrain", "finetune", "evaluate", "sample", "select", "label", "forget",
    "scratch", "model", "speed", "report",
)  # fmt: skip


def run(recipe: Recipe, work: Workspace) -> Done:
    """Run every iteration of `recipe`, reusing whatever `work` already holds; return the report."""
    student = {"student": recipe.student}
    backend = {"backend": recipe.student.backend}  # type: ignore[attr-defined]
    teacher = {"teacher": calculators.identity(recipe.teacher)}
    walk = recipe.sample or recipe.explore

    data = _prepare(recipe, work)
    task = {"train": data.train, "valid": data.valid}
    exam = {"test": data.test, "ood": recipe.data.ood.model_dump() if recipe.data.ood else None}
    pool = work.do(explore, recipe.explore, **teacher, starts=data.starts)
    finished: list[tuple[Done, Done]] = []
    model = None
    for i in range(recipe.iterations):
        at = f"iter-{i:02d}"
        pretrained = work.do(
            pretrain, recipe.pretrain, at=at, **student, e0s_eV=data.e0s_eV, model=model, pool=pool.frames
        )
        finetuned = work.do(
            finetune, recipe.finetune, at=at, **student, model=pretrained.model, **task, pool=pool.frames
        )
        scores = work.do(
            evaluate, recipe.evaluate, at=at, model={**backend, "model": finetuned.model}, **exam, align=None
        )
        finished.append((finetuned, scores))
        if i + 1 == recipe.iterations or not _still_pays(recipe, finished):
            break
        now = {**backend, "model": finetuned.model}
        walked = work.do(sample, walk, at=at, **now, starts=data.starts, iteration=i)
        chosen = work.do(select, recipe.select, at=at, **now, frames=walked.frames, old=pool.frames)
        pool = work.do(label, recipe.label, at=at, **now, **teacher, frames=chosen.frames, old=pool.frames)
        model = work.do(forget, recipe.forget, at=at, **now).model

    best = min(range(len(finished)), key=lambda i: _valid_error(finished[i][0]))
    final = work.do(export, at=":model", model=finished[best][0].model, **backend, iteration=best)
    baselines = _baselines(recipe, work, data, task, exam)
    return _report(recipe, work, data, finished, best, final, baselines)


def _prepare(recipe: Recipe, work: Workspace) -> Done:
    data = recipe.data
    return work.do(
        prepare, data, train=data.train, test=data.test, valid=data.valid,
        starts=recipe.explore.starts, split_seed=recipe.seed,
    )  # fmt: skip


def _still_pays(recipe: Recipe, finished: list[tuple[Done, Done]]) -> bool:
    """Whether the last iteration lowered the validation force error enough to go on."""
    if len(finished) < 2:
        return True
    before, now = (_valid_error(trained) for trained, _ in finished[-2:])
    return now < before * (1 - recipe.min_improvement)


def _valid_error(finetuned: Done) -> float:
    return float(finetuned.valid["force_mae_meV_per_A"])


def _baselines(
    recipe: Recipe, work: Workspace, data: Done, task: dict[str, Any], exam: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return, by name, each baseline's model, its scores, and whether its energies were shifted."""
    found: dict[str, dict[str, Any]] = {}
    for baseline in recipe.baselines:
        at = f"baseline-{baseline.kind}"
        align = None
        if isinstance(baseline, Scratch):
            trained = work.do(scratch, baseline.fit, at=at, student=recipe.student, e0s_eV=data.e0s_eV, **task)
            name, model = "scratch", {"backend": recipe.student.backend, "model": trained.model}  # type: ignore[attr-defined]
        else:
            name = f"teacher ({calculators.describe(recipe.teacher)})"
            model, align = {"calculator": calculators.identity(recipe.teacher)}, data.train
        scores = work.do(evaluate, recipe.evaluate, at=at, model=model, **exam, align=align)
        found[name] = {
            "model": model,
            "scores": scores,
            "stage": at,
            "role": "baseline",
            "aligned": align is not None,
        }
    return found


def _report(
    recipe: Recipe,
    work: Workspace,
    data: Done,
    finished: list[tuple[Done, Done]],
    best: int,
    final: Done,
    baselines: dict[str, dict[str, Any]],
) -> Done:
    backend = final.backend
    entries = {
        "ipip": {"model": {"backend": backend, "model": final.folder}, "scores": finished[best][1], "stage": "",
                 "role": "ipip", "aligned": False},
        **baselines,
        **{f"iteration-{i}": {"model": {"backend": backend, "model": trained.model}, "scores": scores,
                              "stage": f"iter-{i:02d}", "role": "iteration", "aligned": False}
           for i, (trained, scores) in enumerate(finished)},
    }  # fmt: skip
    timed = work.do(
        speed,
        recipe.evaluate,
        models={name: entry["model"] for name, entry in entries.items()},
        starts=data.starts,
    )
    models = {
        name: {
            **{key: entry[key] for key in ("role", "stage", "aligned")},
            **{key: getattr(entry["scores"], key) for key in ("errors", "n_frames", "n_parameters")},
        }
        for name, entry in entries.items()
    }
    forces = {name: entry["scores"].forces for name, entry in entries.items() if entry["role"] != "iteration"}
    values = {key: getattr(timed, key) for key in ("md_step_ms", "n_atoms", "formula")}
    return work.do(report, models=models, speed=values, forces=forces)
