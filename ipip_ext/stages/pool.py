"""select and forget: what stays of the frames and of the student between two iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipip_ext.backends import registry
from ipip_ext.data import frames as fr
from ipip_ext.data import select as choose
from ipip_ext.data.filters import REASONS, Filters
from ipip_ext.recipe.forget import Forgetting
from ipip_ext.recipe.labels import Select
from ipip_ext.run.stage import Context
from ipip_ext.stages.inputs import Student


def select(
    ctx: Context, settings: Select, *, student: Student, frames: Path, old: Path, trusted: Sequence[Path]
) -> dict[str, Any]:
    """Keep frames that are physical, new, and different from each other and from the old pool.

    trusted: starts and reference frames, on which the limits of the filters are measured.
    """
    engine = registry.backend(student.backend)
    model = engine.load(student.model)
    walked = fr.read_frames(frames)
    filters = Filters(settings, [frame for path in trusted for frame in fr.read_structures(path)])
    reasons = [filters.reason(frame, frame.arrays[fr.FORCES]) for frame in walked]
    sane = [frame for frame, reason in zip(walked, reasons, strict=True) if reason is None]
    dropped = {name: reasons.count(name) for name in (*REASONS, "duplicate", "over_max_frames")}
    kept: list[int] = []
    if sane:
        features = engine.descriptors(model, sane, ctx.device)
        seen = engine.descriptors(model, fr.read_frames(old), ctx.device)
        kept, duplicates = choose.diverse(features, settings.max_frames, settings.duplicate_tolerance, seen)
        dropped["duplicate"] = duplicates
        dropped["over_max_frames"] = len(sane) - len(kept) - duplicates
    fr.write_frames(ctx.folder / "frames.extxyz", [sane[i] for i in kept])
    ctx.note(f"kept {len(kept)} of {len(walked)} frames; dropped: {_counts(dropped)}")
    ctx.metric("selected_frames", len(kept))
    for name, count in dropped.items():
        ctx.metric(f"dropped_{name}", count)
    return {"frames": ctx.folder / "frames.extxyz", "n_kept": len(kept), "dropped": dropped}


def forget(ctx: Context, settings: Forgetting, *, student: Student) -> dict[str, Any]:
    """Re-initialise the chosen blocks; optimiser, EMA and schedule start afresh with the next training."""
    engine = registry.backend(student.backend)
    model = engine.forget(engine.load(student.model), settings.groups, settings.keep, settings.noise, ctx.seed)
    engine.save(model, ctx.folder / "model")
    sizes = {name: values.size for name, values in engine.parameters(model).items()}
    held = engine.groups(model)
    forgotten = {name for group in settings.groups for name in held[group]}
    ctx.metric("forgotten_share", sum(sizes[name] for name in forgotten) / sum(sizes.values()))
    return {"model": ctx.folder / "model"}


def _counts(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "none"
