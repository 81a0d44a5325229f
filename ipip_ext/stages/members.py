"""A committee's members: each fine-tuned from the same pretrained student, side by side where there is room.

A member's seed derives from its number, so its weights are the same wherever it is trained.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.backends import registry
from ipip_ext.backends.base import FitData, FitHooks, FitJob
from ipip_ext.data import frames as fr
from ipip_ext.recipe.training import Finetune
from ipip_ext.run.inputs import Inputs
from ipip_ext.run.seeds import derive
from ipip_ext.run.stage import Context
from ipip_ext.stages.fitting import fit_or_retry
from ipip_ext.stages.inputs import Task


@dataclass(frozen=True)
class Members(Inputs):
    """What all members are made of.

    pretrained: the student that each begins with. bootstrap: each draws its training frames anew, with replacement.
    """

    backend: str
    finetune: Finetune
    bootstrap: bool
    pretrained: Path
    task: Task
    pool: Path


def train_members(ctx: Context, members: Members, size: int) -> dict[int, Path]:
    """Return the folders of members 1 to size - 1, as parts of the stage of `ctx`. Raises Diverged."""
    trained = ctx.parts(member, {f"member-{k}": {"of": members, "number": k} for k in range(1, size)})
    return {k: trained[f"member-{k}"].model for k in range(1, size)}


def member(ctx: Context, *, of: Members, number: int) -> dict[str, Any]:
    """Train a member, or go on with it; if it diverges, once more as a fine-tuning is. Raises Diverged.

    number: 1 or more; its seed derives from it and from the committee's.
    """
    backend, work, seed = registry.backend(of.backend), ctx.folder / "fit", derive(ctx.seed, "member", number)
    labelled = fr.read_frames(of.task.train)
    seen = _resample(labelled, seed) if of.bootstrap else labelled
    replay = fr.read_frames(of.pool) if of.finetune.replay_fraction > 0 else []
    data = FitData(seen, fr.read_frames(of.task.valid), replay, of.finetune.replay_fraction, of.finetune.replay_weight)
    hooks = FitHooks(
        progress=lambda share, text: ctx.progress(share, f"member {number}: {text}"),
        note=lambda text: ctx.note(f"member {number}: {text}"),
    )
    start = backend.align_energies(backend.load(of.pretrained), labelled, ctx.device)
    job = FitJob(seed, work, ctx.device, hooks)
    result, _ = fit_or_retry(backend, start, data, of.finetune, job, f"{ctx.name}, member {number}")
    backend.save(result.model, ctx.folder / "model")
    shutil.rmtree(work, ignore_errors=True)
    return {"model": ctx.folder / "model"}


def _resample(frames: list[Atoms], seed: int) -> list[Atoms]:
    rows = np.random.default_rng(seed).integers(0, len(frames), len(frames))
    return [frames[i] for i in rows]
