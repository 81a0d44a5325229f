"""pretrain, finetune and the baselines that are trained, from scratch or from a foundation model: one contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.backends import registry
from ipip_ext.backends.base import Backend, FitData, FitResult, Model, Tuning
from ipip_ext.data import frames as fr
from ipip_ext.data import leakage
from ipip_ext.recipe.schema import Section
from ipip_ext.recipe.training import Finetune, Fit, Pretrain
from ipip_ext.run.stage import Context
from ipip_ext.stages.fitting import at_work, clear, fit_once, fit_or_retry, job_of
from ipip_ext.stages.inputs import Task


def pretrain(
    ctx: Context, settings: Pretrain, *, student: Section, e0s_eV: Mapping[str, float], model: Path | None, pool: Path
) -> dict[str, Any]:  # fmt: skip
    """Train on pseudo-labels, forces first. model: the student that has forgotten, None for a new one."""
    backend = _backend(student)
    frames = [_weighted(frame, settings.source_weights) for frame in fr.read_frames(pool)]
    rng = np.random.default_rng(ctx.seed)
    order = rng.permutation(len(frames))
    held = max(1, round(settings.valid_fraction * len(frames)))
    valid, train = [frames[i] for i in order[:held]], [frames[i] for i in order[held:]]
    start = backend.build(student, e0s_eV, train, ctx.seed) if model is None else backend.load(model)
    if settings.energy_weight > 0:
        start = backend.align_energies(start, train, ctx.device)
    return _fit(ctx, backend, start, FitData(train, valid), settings)


def finetune(
    ctx: Context, settings: Finetune, *, student: Section, model: Path, task: Task, pool: Path
) -> dict[str, Any]:  # fmt: skip
    """Train on the task's labels, with frames of the pool replayed so that what they taught is kept.

    Energies first move to the task's zeros by a fit that leaves forces alone: pretraining has no
    zeros to keep, and gradients of eV-sized offsets would wash out the forces.
    """
    backend = _backend(student)
    labelled = fr.read_frames(task.train)
    start = backend.align_energies(backend.load(model), labelled, ctx.device)
    replay: Sequence[Atoms] = fr.read_frames(pool) if settings.replay_fraction > 0 else ()
    data = FitData(labelled, fr.read_frames(task.valid), replay, settings.replay_fraction, settings.replay_weight)
    return _fit(ctx, backend, start, data, settings, retries=True)


def scratch(
    ctx: Context, settings: Fit, *, student: Section, e0s_eV: Mapping[str, float], task: Task
) -> dict[str, Any]:  # fmt: skip
    """Train the student's architecture on the task's labels alone."""
    backend = _backend(student)
    labelled = fr.read_frames(task.train)
    start = backend.build(student, e0s_eV, labelled, ctx.seed)
    return _fit(ctx, backend, start, FitData(labelled, fr.read_frames(task.valid)), settings)


def tune_foundation(
    ctx: Context, settings: Fit, *, foundation: Mapping[str, str], task: Task
) -> dict[str, Any]:  # fmt: skip
    """Train a foundation model on the task's labels alone, after a fit that moves its energies to the task's zeros.

    foundation: {backend: file or name}; a file is looked for beside the recipe first.
    """
    labelled = fr.read_frames(task.train)
    backend, start = adopt(foundation, ctx.home, fr.elements(labelled))
    start = backend.align_energies(start, labelled, ctx.device)
    data = FitData(labelled, fr.read_frames(task.valid))
    return _fit(ctx, backend, start, data, settings) | {"backend": backend.name}


def tune_natively(
    ctx: Context, settings: Fit, *, foundation: Mapping[str, str], tuning: Mapping[str, Any], task: Task,
    replay: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Train a foundation model by its makers' own program, which keeps its log beside the model.

    foundation: as in `tune_foundation`. tuning: `Finetuned.tuning`. replay: structures that it labels itself and goes
    on learning, of which `n_replay` are drawn; None for methods without.
    """
    labelled, drawn = fr.read_frames(task.train), [] if replay is None else fr.read_structures(replay)
    how = Tuning(**tuning)
    if len(drawn) > how.n_replay:
        drawn = [drawn[i] for i in np.random.default_rng(ctx.seed).choice(len(drawn), how.n_replay, replace=False)]
    leakage.refuse(ctx.name, [*labelled, *drawn], leakage.held_out(ctx.root))
    backend, start = adopt(foundation, ctx.home, fr.elements([*labelled, *drawn]))
    data, log = FitData(labelled, fr.read_frames(task.valid), drawn), ctx.folder / "run_train.log"
    result = backend.tune_natively(start, data, settings, how, at_work(job_of(ctx)), log)
    return _kept(ctx, backend, result, data) | {"backend": backend.name, "log": log}


def adopt(foundation: Mapping[str, str], home: Path, elements: Iterable[str]) -> tuple[Backend, Model]:
    """Return the foundation model of `tune_foundation` as a student, with its backend. Raises CalculatorError."""
    ((name, model),) = foundation.items()
    backend, file = registry.backend(name), home / model
    return backend, backend.adopt(str(file if file.is_file() else model), elements)


def _weighted(frame: Atoms, weights: Mapping[str, float]) -> Atoms:
    """Set the frame's weight by the kind of its source, the part before the colon."""
    kind = str(frame.info.get(fr.SOURCE, "")).split(":", maxsplit=1)[0]
    if kind in weights:
        frame.info[fr.WEIGHT] = weights[kind]
    return frame


def _fit(
    ctx: Context, backend: Backend, start: Model, data: FitData, settings: Fit, *, retries: bool = False
) -> dict[str, Any]:  # fmt: skip
    """Train; with `retries` once more if that diverges. Raises Diverged if it does so for good."""
    leakage.refuse(ctx.name, [*data.train, *data.replay], leakage.held_out(ctx.root))
    train = fit_or_retry if retries else fit_once
    result, retry = train(backend, start, data, settings, job_of(ctx), ctx.name)
    return {**_kept(ctx, backend, result, data), "retry": retry}


def _kept(ctx: Context, backend: Backend, result: FitResult, data: FitData) -> dict[str, Any]:
    """Store what a training made, remove what it worked with, and return what the stage leaves."""
    backend.save(result.model, ctx.folder / "model")
    clear(ctx.folder)
    return {
        "model": ctx.folder / "model",
        "valid": dict(result.valid),
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "steps": result.steps,
        "n_train": len(data.train),
        "retry": None,
    }


def _backend(student: Section) -> Backend:
    return registry.backend(student.backend)  # type: ignore[attr-defined]
