"""Labels of the reference method, each written at once: it may have cost an hour. In one go, or in jobs of a few."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.errors import StageFailed
from ipip_ext.potentials.base import Potential
from ipip_ext.potentials.compute import compute_each
from ipip_ext.run.stage import Context
from ipip_ext.stages.inputs import Batching, Entry
from ipip_ext.teachers import entries

_KEPT = "labelled"
"""Folder with a file for each frame, empty for one that has no label."""


def label_by_reference(
    ctx: Context, frames: Sequence[Atoms], calculator: Entry, source: str, batching: Batching
) -> list[Atoms]:
    """Return the frames that `calculator` can label, with its labels. Raises StageFailed if it can label none."""
    executor = entries.executor_of(calculator)
    n_per_job = batching.frames_per_job or (len(frames) if executor else None)
    if n_per_job and frames:
        _label_in_jobs(ctx, frames, calculator, source, n_per_job, executor)
    else:
        _label_here(ctx, frames, calculator, source)
    labels = [label for path in _files(ctx.folder, len(frames)) for label in fr.read_frames(path)]
    if frames and not labels:
        raise StageFailed(f"{ctx.name}: {source} could label none of {len(frames)} frames; see the notes above.")
    return labels


def label_batch(ctx: Context, *, frames: Path, calculator: Entry, source: str) -> dict[str, Any]:
    """Label the frames of a file, as a part of a stage."""
    _label_here(ctx, fr.read_frames(frames), calculator, source)
    return {"labelled": ctx.folder / _KEPT}


def _label_in_jobs(
    ctx: Context, frames: Sequence[Atoms], calculator: Entry, source: str, n_per_job: int, executor: str
) -> None:  # fmt: skip
    """Have `n_per_job` frames labelled by each job, and gather what they leave as if this process had made it."""
    batches, parts = ctx.folder / "batches", dict[str, Mapping[str, Any]]()
    batches.mkdir(exist_ok=True)
    for number, first in enumerate(range(0, len(frames), n_per_job)):
        batch = batches / f"{number:05d}.extxyz"
        if not batch.exists():
            fr.write_frames(batch, frames[first : first + n_per_job])
        parts[f"batch-{number:05d}"] = {"frames": batch, "calculator": calculator, "source": source}
    done = ctx.parts(label_batch, parts, executor=executor)
    (ctx.folder / _KEPT).mkdir(exist_ok=True)
    found = [path for name in parts for path in sorted(done[name].labelled.iterdir())]
    for path, kept in zip(found, _files(ctx.folder, len(frames)), strict=True):
        if not kept.exists():
            os.link(path, kept)
    shutil.rmtree(batches)
    shutil.rmtree(ctx.parts_folder)


def _label_here(ctx: Context, frames: Sequence[Atoms], calculator: Entry, source: str) -> None:
    """Label frames, as many at a time as the calculator has workers."""
    potential: Potential = entries.make(calculator, device=ctx.device, root=ctx.home)
    if versions := getattr(potential, "versions", None):
        ctx.note(f"{source} runs in another interpreter: {', '.join(f'{k} {v}' for k, v in versions.items())}")
    (ctx.folder / _KEPT).mkdir(exist_ok=True)
    paths = _files(ctx.folder, len(frames))
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    at_once = getattr(potential, "workers", 1)
    for first in range(0, len(missing), at_once):
        some = missing[first : first + at_once]
        predictions, failures = compute_each(potential, [frames[i] for i in some])
        for place, index in enumerate(some):
            if place in failures:
                ctx.note(f"no reference label for frame {frames[index].info[fr.ID]}: {failures[place]}")
            labelled = [] if place in failures else [fr.labelled(frames[index], predictions[place], source)]
            fr.write_frames(paths[index], labelled)
        done = len(frames) - len(missing) + first + len(some)
        ctx.progress(done / len(frames), f"{done}/{len(frames)} frames, {source}")


def _files(folder: Path, n_frames: int) -> list[Path]:
    return [folder / _KEPT / f"{index:05d}.extxyz" for index in range(n_frames)]
