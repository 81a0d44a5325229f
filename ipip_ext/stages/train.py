"""pretrain, finetune and the from-scratch baseline: three trainings, one contract."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext import frames as fr
from ipip_ext import leakage
from ipip_ext.backends import registry
from ipip_ext.backends.base import Backend, FitData, FitHooks, Model
from ipip_ext.recipe import Finetune, Fit, Pretrain
from ipip_ext.schema import Section
from ipip_ext.workspace import Context


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
    ctx: Context, settings: Finetune, *, student: Section, model: Path, train: Path, valid: Path, pool: Path
) -> dict[str, Any]:  # fmt: skip
    """Train on the task's labels, with frames of the pool replayed so that what they taught is kept.

    Energies first move to the task's zeros by a fit that leaves forces alone: pretraining has no
    zeros to keep, and gradients of eV-sized offsets would wash out the forces.
    """
    backend = _backend(student)
    labelled = fr.read_frames(train)
    start = backend.align_energies(backend.load(model), labelled, ctx.device)
    replay: Sequence[Atoms] = fr.read_frames(pool) if settings.replay_fraction > 0 else ()
    data = FitData(labelled, fr.read_frames(valid), replay, settings.replay_fraction, settings.replay_weight)
    return _fit(ctx, backend, start, data, settings)


def scratch(
    ctx: Context, settings: Fit, *, student: Section, e0s_eV: Mapping[str, float], train: Path, valid: Path
) -> dict[str, Any]:  # fmt: skip
    """Train the student's architecture on the task's labels alone."""
    backend = _backend(student)
    labelled = fr.read_frames(train)
    start = backend.build(student, e0s_eV, labelled, ctx.seed)
    return _fit(ctx, backend, start, FitData(labelled, fr.read_frames(valid)), settings)


def _weighted(frame: Atoms, weights: Mapping[str, float]) -> Atoms:
    """Set the frame's weight by the kind of its source, the part before the colon."""
    kind = str(frame.info.get(fr.SOURCE, "")).split(":", maxsplit=1)[0]
    if kind in weights:
        frame.info[fr.WEIGHT] = weights[kind]
    return frame


def _fit(ctx: Context, backend: Backend, start: Model, data: FitData, settings: Fit) -> dict[str, Any]:
    leakage.refuse(ctx.name, [*data.train, *data.replay], leakage.held_out(ctx.root))
    state = ctx.folder / "fit"
    hooks = FitHooks(ctx.metric, ctx.progress)
    result = backend.fit(start, data, settings, seed=ctx.seed, folder=state, device=ctx.device, hooks=hooks)
    backend.save(result.model, ctx.folder / "model")
    shutil.rmtree(state, ignore_errors=True)
    return {
        "model": ctx.folder / "model",
        "valid": dict(result.valid),
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "steps": result.steps,
        "n_train": len(data.train),
    }


def _backend(student: Section) -> Backend:
    return registry.backend(student.backend)  # type: ignore[attr-defined]
