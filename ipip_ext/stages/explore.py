"""explore and sample: MD from the starts, by the teacher or by a student."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase import Atoms

from ipip_ext import md
from ipip_ext.backends import registry
from ipip_ext.data import frames as fr
from ipip_ext.errors import StageFailed
from ipip_ext.potentials.base import Potential, Prediction
from ipip_ext.recipe.walk import Explore
from ipip_ext.run.stage import Context
from ipip_ext.stages.inputs import Entry, Student
from ipip_ext.teachers import entries

_AT_ONCE = 500
"""Frames of MD that are written together."""


def explore(ctx: Context, settings: Explore, *, teacher: Entry, starts: Path) -> dict[str, Any]:
    """Walk with the teacher. Every frame keeps the label that MD computed for it anyway: the first pool."""
    potential = entries.make(teacher, device=ctx.device, root=ctx.home)
    return _walk(ctx, settings, potential, starts, prefix="it00", source=f"teacher:{potential.name}")


def sample(ctx: Context, settings: Explore, *, student: Student, starts: Path, iteration: int) -> dict[str, Any]:
    """Walk with the student just fine-tuned."""
    engine = registry.backend(student.backend)
    potential = engine.potential(engine.load(student.model), ctx.device)
    prefix = f"it{iteration + 1:02d}"  # these frames teach the next iteration
    return _walk(ctx, settings, potential, starts, prefix, source=f"student:iteration-{iteration}")


def _walk(
    ctx: Context, settings: Explore, potential: Potential, starts: Path, prefix: str, source: str
) -> dict[str, Any]:
    structures = fr.read_structures(starts)
    replicas = md.plan_replicas(structures, settings, ctx.seed, prefix)
    if said := md.too_long(settings.timestep_fs, structures):
        ctx.note(said)
    folder = ctx.folder / "md"

    def tell(done: int, total: int, text: str) -> None:
        ctx.progress(done / total, text)

    walked = md.run(potential, replicas, settings, folder, tell)
    n_frames = _write(ctx.folder / "frames.extxyz", (_as_frame(atoms, source) for atoms in walked))
    if not n_frames:
        first = walked.stops[0].sentence if walked.stops else "no replica produced one"
        raise StageFailed(f"{ctx.name}: MD kept no frame ({first}); try a shorter timestep_fs or lower temperatures_K.")
    stops = ctx.folder / "stops.json"
    stops.write_text(json.dumps([asdict(stop) for stop in walked.stops], indent=1), encoding="utf-8")
    shutil.rmtree(folder)
    for stop in walked.stops:
        ctx.note(stop.sentence + (" It began again." if stop.restarted else ""))
    n_stopped, n_before = len(walked.ended_early), len({name for stop in walked.stops for name in stop.frame_ids})
    ctx.metric("md_frames", n_frames)
    ctx.metric("md_replicas_stopped", n_stopped)
    ctx.metric("md_restarts", len(walked.stops) - n_stopped)
    ctx.metric("md_frames_before_stop", n_before)
    return {
        "frames": ctx.folder / "frames.extxyz",
        "stops": stops,
        "n_frames": n_frames,
        "n_replicas": len(replicas),
        "n_stopped": n_stopped,
        "n_restarts": len(walked.stops) - n_stopped,
        "n_before_stop": n_before,
    }


def _write(path: Path, frames: Iterator[Atoms]) -> int:
    """Write frames some at a time, since a long walk's need not fit into memory; return how many there are."""
    some, count = path.with_name("some.extxyz"), 0
    with path.open("wb") as whole:
        while block := list(itertools.islice(frames, _AT_ONCE)):
            fr.write_frames(some, block)
            whole.write(some.read_bytes())
            count += len(block)
    some.unlink(missing_ok=True)
    return count


def _as_frame(atoms: Atoms, source: str) -> Atoms:
    frame = atoms.copy()
    energy, forces = frame.info.pop("MD_energy"), frame.arrays.pop("MD_forces")
    frame.info.pop("MD_kinetic_temperature_K")
    return fr.labelled(frame, Prediction(energy, forces, frame.info.pop("MD_stress", None)), source)
