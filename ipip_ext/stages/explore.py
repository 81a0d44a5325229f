"""explore and sample: MD from the starts, by the teacher or by a student."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ipip_ext import calculators, md
from ipip_ext import frames as fr
from ipip_ext.backends import registry
from ipip_ext.errors import StageFailed
from ipip_ext.potential import Potential, Prediction
from ipip_ext.recipe import Explore
from ipip_ext.workspace import Context


def explore(ctx: Context, settings: Explore, *, teacher: Any, starts: Path) -> dict[str, Any]:
    """Walk with the teacher. Every frame keeps the label that MD computed for it anyway: the first pool."""
    potential = calculators.make(teacher, device=ctx.device, root=ctx.home)
    return _walk(ctx, settings, potential, starts, prefix="it00", source=f"teacher:{potential.name}")


def sample(
    ctx: Context, settings: Explore, *, model: Path, backend: str, starts: Path, iteration: int
) -> dict[str, Any]:
    """Walk with the student just fine-tuned."""
    engine = registry.backend(backend)
    potential = engine.potential(engine.load(model), ctx.device)
    prefix = f"it{iteration + 1:02d}"  # these frames teach the next iteration
    return _walk(ctx, settings, potential, starts, prefix, source=f"student:iteration-{iteration}")


def _walk(
    ctx: Context, settings: Explore, potential: Potential, starts: Path, prefix: str, source: str
) -> dict[str, Any]:
    replicas = md.plan_replicas(fr.read_structures(starts), settings, ctx.seed, prefix)
    chunks = ctx.folder / "md"
    chunks.mkdir(exist_ok=True)

    def tell(done: int, total: int, text: str) -> None:
        ctx.progress(done / total, text)

    walked = md.run(potential, replicas, settings, chunks, tell)
    if not walked.frames:
        first = walked.stops[0].sentence if walked.stops else "no replica produced one"
        raise StageFailed(f"{ctx.name}: MD kept no frame ({first}); try a shorter timestep_fs or lower temperatures_K.")
    frames = [_as_frame(atoms, source) for atoms in walked.frames]
    fr.write_frames(ctx.folder / "frames.extxyz", frames)
    stops = ctx.folder / "stops.json"
    stops.write_text(json.dumps([asdict(stop) for stop in walked.stops], indent=1), encoding="utf-8")
    shutil.rmtree(chunks)
    for stop in walked.stops:
        ctx.note(stop.sentence)
    ctx.metric("md_frames", len(frames))
    ctx.metric("md_replicas_stopped", len(walked.stops))
    return {
        "frames": ctx.folder / "frames.extxyz",
        "stops": stops,
        "n_frames": len(frames),
        "n_replicas": len(replicas),
        "n_stopped": len(walked.stops),
    }


def _as_frame(atoms: Any, source: str) -> Any:
    frame = atoms.copy()
    energy, forces = frame.info.pop("MD_energy"), frame.arrays.pop("MD_forces")
    return fr.labelled(frame, Prediction(energy, forces), source)
