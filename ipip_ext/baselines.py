"""What the student is set beside: baselines, and the report over all models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.measure.property_curves import agreement
from ipip_ext.measure.timing import times, training_costs
from ipip_ext.recipe.baselines import (
    AdaptedBaseline,
    CalculatorBaseline,
    Conventional,
    Distilled,
    Finetuned,
    NoForget,
    Scratch,
    TeacherBaseline,
)
from ipip_ext.recipe.evaluate import Properties, Stability
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.walk import Explore
from ipip_ext.report.about import about
from ipip_ext.rounds import MendedTeacher, Round, best_of
from ipip_ext.run.seeds import derive
from ipip_ext.run.workspace import Done, Workspace
from ipip_ext.stages.calibration import calibration
from ipip_ext.stages.evaluate import evaluate, frame_ids
from ipip_ext.stages.properties import as_nve, properties, trajectory_properties
from ipip_ext.stages.report import report
from ipip_ext.stages.speed import speed, supercell
from ipip_ext.stages.stability import as_md, stability
from ipip_ext.stages.train import scratch, tune_foundation, tune_natively
from ipip_ext.teachers import entries as calculators

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
    mended: MendedTeacher, e0s_eV: Mapping[str, float], exam: Mapping[str, Any],
) -> dict[str, Contender]:  # fmt: skip
    """Train and evaluate every baseline of the recipe; return them by name.

    rounds: the iterations of the run. no_forget: runs them without forgetting, in folders that begin with its argument.
    mended: of the first iteration.
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
            case Finetuned():
                tuned = train_finetuned(recipe, work, baseline, task, rounds[0].pool)
                model = {"backend": tuned.backend, "model": tuned.model}
            case NoForget():
                unforgotten = no_forget(f"{at}/")
                model |= {"model": unforgotten[best_of(unforgotten)].tuned.model}
            case Distilled():
                model |= {"model": rounds[0].pretrained.model}
                align = task["train"]  # it has never seen an energy of the task
            case TeacherBaseline():
                name = f"teacher ({calculators.describe(recipe.teacher)})"
                model, align = _calculator(recipe, recipe.teacher), task["train"]
            case AdaptedBaseline():
                model, align = {"calculator": mended.entry}, task["train"]
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


def train_finetuned(
    recipe: Recipe, work: Workspace, baseline: Finetuned, task: Mapping[str, Any], pool: Done
) -> Done:  # fmt: skip
    """Fine-tune a foundation model on the task's labels, by our own training or by its makers'.

    pool: of the first iteration, replayed where the recipe names nothing else.
    """
    at = f"baseline-{baseline.name}"
    foundation = calculators.identity(baseline.calculator, recipe.folder)
    if baseline.method == "naive":
        return work.do(tune_foundation, baseline.fit, at=at, foundation=foundation, **task)
    replay = baseline.replay or pool.frames if baseline.method == "multihead" else None
    return work.do(
        tune_natively, baseline.fit, at=at, foundation=foundation, tuning=baseline.tuning, **task, replay=replay
    )


def compare(
    recipe: Recipe, work: Workspace, contenders: Mapping[str, Contender], starts: Path, *, exam: Mapping[str, Any],
    committee: Done | None,
) -> Done:  # fmt: skip
    """Time all contenders side by side and write the table, the plots and the page.

    committee: the one whose expected errors are held against the test frames.
    """
    walked = walk(recipe, work, contenders.values(), starts)
    measured = measure_properties(recipe, work, contenders.values(), starts)
    sure = None if committee is None else check_committee(recipe, work, committee, exam)
    cell = supercell(fr.read_structures(starts), recipe.evaluate)
    models = {name: contender.model for name, contender in contenders.items() if contender.knows([cell])}
    timed = work.do(speed, recipe.evaluate, follows=True, models=models, starts=starts)
    costs = training_costs(work.root, {name: c.scores.record for name, c in contenders.items()})
    entries = {
        name: {
            "role": c.role,
            "stage": c.stage,
            "aligned": c.aligned,
            "stability": walked.get(c.at),
            "properties": measured.values.get(c.at, {}),
            "curves": measured.curves.get(c.at, {}),
            "cost": costs.get(name, {}),
            "n_parameters": c.scores.n_parameters,
            "n_frames": c.scores.n_frames,
            "panel": _panel(name, c),
        }
        for name, c in contenders.items()
    }
    scores = {name: {"per_frame": c.scores.per_frame, "forces": c.scores.forces} for name, c in contenders.items()}
    partial = {next(iter(c.scores.errors)): frame_ids(c.scores.per_frame) for c in contenders.values() if c.is_partial}
    taken_apart = {
        "test": exam["test"], "ood": exam["ood"], "partial": partial, "split_keys": recipe.data.split_keys,
        "seed": derive(recipe.seed, "bootstrap"),
    }  # fmt: skip
    values = {key: getattr(timed, key) for key in ("md_step_ms", "peak_memory_MiB", "n_atoms", "formula", "rows")}
    return work.do(
        report, follows=True, models=entries, scores=scores, exam=taken_apart, speed=values, calibration=sure,
        times=times(work.root), reference=_reference_said(recipe), reference_curves=measured.reference,
        about=about(recipe, work.root),
    )  # fmt: skip


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
    models = {c.at: c.model for c in contenders if _walks(c, wanted) and c.knows(structures)}
    done = {
        at: work.do(stability, settings, at=at, model=model, starts=settings.starts, seed=seed)
        for at, model in models.items()
    }
    return {at: {key: getattr(d, key) for key in ("shares", "n_walks", "time_ps", "walks")} for at, d in done.items()}


def _walks(c: Contender, wanted: Stability) -> bool:
    if c.role == "iteration":
        return wanted.every_iteration
    return wanted.models is None or (c.role if c.role == "ipip" else c.at.removeprefix("baseline-")) in wanted.models


@dataclass(frozen=True)
class Measured:
    """Properties, by the place of a model's stages: numbers and files of curves by kind; the reference's files."""

    values: Mapping[str, Mapping[str, float]]
    curves: Mapping[str, Mapping[str, Path]]
    reference: Mapping[str, Path]


def measure_properties(
    recipe: Recipe, work: Workspace, contenders: Iterable[Contender], starts: Path
) -> Measured:  # fmt: skip
    """Return what each contender's properties are and how far from the reference's.

    Iterations that were not chosen are left out, and a model that doesn't know all elements of what walks. The
    teacher as the reference walks with velocities of its own, so that its distance from itself is what chance gives.
    """
    wanted = recipe.evaluate.properties
    if wanted is None:
        return Measured({}, {}, {})
    inputs: dict[str, Any] = {
        "starts": wanted.starts or starts, "trajectory": wanted.trajectory, "strained": wanted.strained,
        "label_keys": (recipe.data.energy_key, recipe.data.forces_key), "strains": wanted.strains,
        "skip_ps": wanted.skip_ps, "rdf_max_A": wanted.rdf_max_A,
    }  # fmt: skip
    nve = as_nve(wanted, starts, recipe.explore.max_batch_replicas)
    paths = (inputs["starts"], wanted.trajectory, wanted.strained)
    structures = [atoms for path in paths if path is not None for atoms in fr.read_structures(path)]
    models = {c.at: c.model for c in contenders if c.role != "iteration" and c.knows(structures)}
    seed = derive(recipe.seed, "properties")
    done = {at: work.do(properties, nve, at=at, model=model, **inputs, seed=seed) for at, model in models.items()}
    reference = _reference_curves(recipe, work, wanted, nve, inputs)
    curves = {at: {key: getattr(d, key) for key in ("strain", "energy", "rdf", "vdos")} for at, d in done.items()}
    values = {at: d.measured | agreement(curves[at], reference) for at, d in done.items()}
    return Measured(values, curves, reference)


def _reference_curves(
    recipe: Recipe, work: Workspace, wanted: Properties, nve: Explore, inputs: Mapping[str, Any]
) -> dict[str, Path]:  # fmt: skip
    """Return the files of the curves that all models are held against."""
    found: dict[str, Path] = {}
    if wanted.trajectory is None or wanted.strained is None:
        seed = derive(recipe.seed, "properties", "reference")
        model = _calculator(recipe, recipe.teacher)
        told = work.do(properties, nve, at="reference", model=model, **inputs, seed=seed)
        found = {key: getattr(told, key) for key in ("strain", "rdf", "vdos")}
    if wanted.trajectory is not None:
        told = work.do(
            trajectory_properties, at="reference", trajectory=wanted.trajectory, step_fs=wanted.trajectory_step_fs,
            skip_ps=wanted.trajectory_skip_ps, rdf_max_A=wanted.rdf_max_A,
        )  # fmt: skip
        found |= {"rdf": told.rdf, "vdos": told.vdos}
    return found


def _reference_said(recipe: Recipe) -> dict[str, str]:
    """Return in words what properties are compared with, by their keys' beginnings; empty if there are none."""
    wanted = recipe.evaluate.properties
    if wanted is None:
        return {}
    teacher = f"the teacher's ({calculators.describe(recipe.teacher)})"
    return {
        "walks": f"{teacher} walk with other velocities, so that its own row shows what chance gives"
        if wanted.trajectory is None
        else wanted.trajectory.name,
        "strain": f"{teacher} energies" if wanted.strained is None else f"the labels of {wanted.strained.name}",
    }


def check_committee(recipe: Recipe, work: Workspace, committee: Done, exam: Mapping[str, Any]) -> dict[str, Any]:
    """Return the calibration of `committee` and what the test frames say of it, as `stages.report` takes it."""
    at = committee.folder.parent.name
    checked = work.do(
        calibration, at=at, members=committee.members, backend=recipe.backend,
        error_per_spread=committee.error_per_spread, **exam,
    )  # fmt: skip
    return {"at": at, "valid": committee.calibration, "test": checked.test}
