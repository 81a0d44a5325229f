"""What the student is set beside: baselines, and the report over all models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ipip_ext import calculators
from ipip_ext.recipe import Recipe, Scratch
from ipip_ext.stages.evaluate import evaluate
from ipip_ext.stages.report import report
from ipip_ext.stages.speed import speed
from ipip_ext.stages.train import scratch
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


def compare(recipe: Recipe, work: Workspace, contenders: Mapping[str, Contender], starts: Any) -> Done:
    """Time all contenders side by side and write the table and the plots."""
    models = {name: contender.model for name, contender in contenders.items()}
    timed = work.do(speed, recipe.evaluate, follows=True, models=models, starts=starts)
    entries = {
        name: {
            "role": c.role,
            "stage": c.stage,
            "aligned": c.aligned,
            **{key: getattr(c.scores, key) for key in ("errors", "n_frames", "n_parameters")},
        }
        for name, c in contenders.items()
    }
    forces = {name: c.scores.forces for name, c in contenders.items() if c.role != "iteration"}
    values = {key: getattr(timed, key) for key in ("md_step_ms", "n_atoms", "formula")}
    return work.do(report, follows=True, models=entries, speed=values, forces=forces)
