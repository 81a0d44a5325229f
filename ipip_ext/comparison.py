"""What the student is set beside: baselines, and the report over all models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipip_ext import calculators
from ipip_ext.recipe import Recipe, Scratch
from ipip_ext.seeds import derive
from ipip_ext.stages.calibration import calibration
from ipip_ext.stages.evaluate import evaluate
from ipip_ext.stages.report import report
from ipip_ext.stages.speed import speed
from ipip_ext.stages.stability import as_md, stability
from ipip_ext.stages.train import scratch
from ipip_ext.timing import times
from ipip_ext.workspace import Done, Workspace

SCRATCH = "baseline-scratch/scratch"
"""The stage that trains the from-scratch baseline."""


@dataclass(frozen=True)
class Contender:
    """A model of the comparison.

    role: ipip | iteration | baseline. stage: folder of its MLflow run. model: as `stages.evaluate` takes it.
    aligned: whether its energies were shifted to the task's zeros.
    """

    role: str
    stage: str
    model: Mapping[str, Any]
    scores: Done
    aligned: bool = False

    @property
    def at(self) -> str:
        """Where in the run folder its own stages are."""
        return self.scores.folder.parent.name


def run_baselines(
    recipe: Recipe, work: Workspace, *, e0s_eV: Mapping[str, float], task: Mapping[str, Any], exam: Mapping[str, Any]
) -> dict[str, Contender]:  # fmt: skip
    """Train and evaluate every baseline of the recipe; return them by name."""
    found: dict[str, Contender] = {}
    for baseline in recipe.baselines:
        at = f"baseline-{baseline.kind}"
        model: dict[str, Any]
        if isinstance(baseline, Scratch):
            name, align = "scratch", None
            trained = train_scratch(recipe, work, baseline, e0s_eV, task)
            model = {"backend": recipe.backend, "model": trained.model}
        else:
            name, align = f"teacher ({calculators.describe(recipe.teacher)})", task["train"]
            model = {"calculator": calculators.identity(recipe.teacher)}
        scores = work.do(evaluate, at=at, model=model, **exam, align=align)
        found[name] = Contender("baseline", at, model, scores, aligned=align is not None)
    return found


def train_scratch(
    recipe: Recipe, work: Workspace, baseline: Scratch, e0s_eV: Mapping[str, float], task: Mapping[str, Any]
) -> Done:  # fmt: skip
    """Train the student's architecture on the task's labels alone."""
    at = SCRATCH.split("/", maxsplit=1)[0]
    return work.do(scratch, baseline.fit, at=at, student=recipe.student, e0s_eV=e0s_eV, **task)


def compare(
    recipe: Recipe, work: Workspace, contenders: Mapping[str, Contender], starts: Path, *, exam: Mapping[str, Any],
    committee: Done | None,
) -> Done:  # fmt: skip
    """Time all contenders side by side and write the table and the plots.

    committee: the one whose expected errors are held against the test frames.
    """
    walked = walk(recipe, work, contenders.values(), starts)
    sure = None if committee is None else check_committee(recipe, work, committee, exam)
    models = {name: contender.model for name, contender in contenders.items()}
    timed = work.do(speed, recipe.evaluate, follows=True, models=models, starts=starts)
    entries = {
        name: {
            "role": c.role,
            "stage": c.stage,
            "aligned": c.aligned,
            "stability": walked.get(c.at),
            **{key: getattr(c.scores, key) for key in ("errors", "n_frames", "n_parameters")},
        }
        for name, c in contenders.items()
    }
    forces = {name: c.scores.forces for name, c in contenders.items() if c.role != "iteration"}
    values = {key: getattr(timed, key) for key in ("md_step_ms", "n_atoms", "formula")}
    return work.do(
        report, follows=True, models=entries, speed=values, forces=forces, calibration=sure, times=times(work.root)
    )


def walk(
    recipe: Recipe, work: Workspace, contenders: Iterable[Contender], starts: Path
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Return how stable MD is with each contender, by the place of its stages; empty if the recipe asks for none."""
    wanted = recipe.evaluate.stability
    if wanted is None:
        return {}
    settings = as_md(wanted, starts, recipe.explore.max_batch_replicas)
    seed = derive(recipe.seed, "stability")
    models = {c.at: c.model for c in contenders if c.role != "iteration" or wanted.every_iteration}
    done = {
        at: work.do(stability, settings, at=at, model=model, starts=settings.starts, seed=seed)
        for at, model in models.items()
    }
    return {at: {key: getattr(d, key) for key in ("shares", "n_walks", "time_ps")} for at, d in done.items()}


def check_committee(recipe: Recipe, work: Workspace, committee: Done, exam: Mapping[str, Any]) -> dict[str, Any]:
    """Return the calibration of `committee` and what the test frames say of it, as `stages.report` takes it."""
    at = committee.folder.parent.name
    checked = work.do(
        calibration, at=at, members=committee.members, backend=recipe.backend,
        error_per_spread=committee.error_per_spread, **exam,
    )  # fmt: skip
    return {"at": at, "valid": committee.calibration, "test": checked.test}
