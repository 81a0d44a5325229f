"""What the student is set beside: baselines, and the report over all models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from ipip_ext import calculators
from ipip_ext import frames as fr
from ipip_ext.recipe import (
    CalculatorBaseline,
    Conventional,
    Distilled,
    NoForget,
    Recipe,
    Scratch,
    TeacherBaseline,
)
from ipip_ext.rounds import Round, best_of
from ipip_ext.seeds import derive
from ipip_ext.stages.calibration import calibration
from ipip_ext.stages.evaluate import errors_on, evaluate, frame_ids
from ipip_ext.stages.report import report
from ipip_ext.stages.speed import speed, supercell
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
    aligned: whether its energies were shifted to the task's zeros. elements: all that it knows; None: no limit.
    """

    role: str
    stage: str
    model: Mapping[str, Any]
    scores: Done
    aligned: bool = False
    elements: Sequence[str] | None = None

    @property
    def at(self) -> str:
        """Where in the run folder its own stages are."""
        return self.scores.folder.parent.name

    @property
    def is_partial(self) -> bool:
        """Whether test frames hold elements that it doesn't know, so that it has a split of its own."""
        return "test" not in self.scores.errors

    def knows(self, frames: Iterable[Atoms]) -> bool:
        """Return whether it knows all elements of `frames`."""
        return self.elements is None or fr.elements(frames) <= set(self.elements)


def run_baselines(
    recipe: Recipe, work: Workspace, rounds: Sequence[Round], no_forget: Callable[[str], Sequence[Round]], *,
    e0s_eV: Mapping[str, float], exam: Mapping[str, Any],
) -> dict[str, Contender]:  # fmt: skip
    """Train and evaluate every baseline of the recipe; return them by name.

    rounds: the iterations of the run. no_forget: runs them without forgetting, in folders that begin with its argument.
    """
    task = rounds[-1].task
    found: dict[str, Contender] = {}
    for baseline in recipe.baselines:
        at, name = f"baseline-{baseline.name}", baseline.name
        model: dict[str, Any] = {"backend": recipe.backend}
        align: Path | None = None
        more: dict[str, Any] = {}
        match baseline:
            case Scratch():
                model |= {"model": train_scratch(recipe, work, baseline, e0s_eV, task).model}
            case NoForget():
                unforgotten = no_forget(f"{at}/")
                model |= {"model": unforgotten[best_of(unforgotten)].tuned.model}
            case Distilled():
                model |= {"model": rounds[0].pretrained.model}
                align = task["train"]  # it has never seen an energy of the task
            case TeacherBaseline():
                name = f"teacher ({calculators.describe(recipe.teacher)})"
                model, align = _calculator(recipe, recipe.teacher), task["train"]
            case CalculatorBaseline():
                model, align = _calculator(recipe, baseline.calculator), task["train"]
            case Conventional():
                model, align = _calculator(recipe, baseline.calculator), task["train"]
                more = {"elements": baseline.elements}
        scores = work.do(evaluate, at=at, model=model, **exam, align=align, **more)
        found[name] = Contender("baseline", at, model, scores, aligned=align is not None, **more)
    return found


def _calculator(recipe: Recipe, entry: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"calculator": calculators.identity(entry, recipe.folder)}


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
    cell = supercell(fr.read_structures(starts), recipe.evaluate)
    models = {name: contender.model for name, contender in contenders.items() if contender.knows([cell])}
    timed = work.do(speed, recipe.evaluate, follows=True, models=models, starts=starts)
    parts = _partial_splits(contenders.values())
    entries = {
        name: {
            "role": c.role,
            "stage": c.stage,
            "aligned": c.aligned,
            "stability": walked.get(c.at),
            "n_parameters": c.scores.n_parameters,
            **_errors(c, parts),
        }
        for name, c in contenders.items()
    }
    forces = {_panel(name, c): c.scores.forces for name, c in contenders.items() if c.role != "iteration"}
    values = {key: getattr(timed, key) for key in ("md_step_ms", "n_atoms", "formula")}
    return work.do(
        report, follows=True, models=entries, speed=values, forces=forces, calibration=sure, times=times(work.root)
    )


def _partial_splits(contenders: Iterable[Contender]) -> dict[str, set[str]]:
    """Return the frames of each split that was made for a model of few elements."""
    return {next(iter(c.scores.errors)): frame_ids(c.scores.per_frame) for c in contenders if c.is_partial}


def _errors(c: Contender, parts: Mapping[str, set[str]]) -> dict[str, Any]:
    """Return errors and numbers of frames by split, with all of `parts` that a model has evaluated."""
    on_parts = {split: errors_on(c.scores.per_frame, ids) for split, ids in parts.items()}
    errors = c.scores.errors | {split: errors for split, errors in on_parts.items() if errors is not None}
    return {
        "errors": errors,
        "n_frames": {split: len(parts[split]) for split in errors if split in parts} | c.scores.n_frames,
    }


def _panel(name: str, c: Contender) -> str:
    """Return the title of a model's parity plot, with the split where that is not the whole of test."""
    return f"{name}, {next(iter(c.scores.errors))}" if c.is_partial else name


def walk(
    recipe: Recipe, work: Workspace, contenders: Iterable[Contender], starts: Path
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Return how stable MD is with each contender, by the place of its stages; empty if the recipe asks for none.

    A model that doesn't know all elements of the starts is left out: it could walk from some only.
    """
    wanted = recipe.evaluate.stability
    if wanted is None:
        return {}
    settings = as_md(wanted, starts, recipe.explore.max_batch_replicas)
    seed = derive(recipe.seed, "stability")
    structures = fr.read_structures(settings.starts)
    models = {
        c.at: c.model for c in contenders if (c.role != "iteration" or wanted.every_iteration) and c.knows(structures)
    }
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
