"""select and forget: what stays of the frames and of the student between two iterations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ipip_ext import frames as fr
from ipip_ext import select as choose
from ipip_ext.backends import registry
from ipip_ext.recipe import Forget, Select
from ipip_ext.workspace import Context


def select(ctx: Context, settings: Select, *, frames: Path, model: Path, backend: str, old: Path) -> dict[str, Any]:
    """Keep frames that are physical, new, and different from each other and from the old pool."""
    engine = registry.backend(backend)
    student = engine.load(model)
    walked = fr.read_frames(frames)
    reasons = [
        choose.is_physical(f, f.arrays[fr.FORCES], settings.min_distance_factor, settings.max_force_eV_per_A)
        for f in walked
    ]
    sane = [frame for frame, reason in zip(walked, reasons, strict=True) if reason is None]
    dropped = Counter(reason for reason in reasons if reason is not None)
    kept: list[int] = []
    if sane:
        features = engine.descriptors(student, sane, ctx.device)
        seen = engine.descriptors(student, fr.read_frames(old), ctx.device)
        kept, duplicates = choose.diverse(features, settings.max_frames, settings.duplicate_tolerance, seen)
        dropped["duplicate"] = duplicates
        dropped["over_max_frames"] = len(sane) - len(kept) - duplicates
    fr.write_frames(ctx.folder / "frames.extxyz", [sane[i] for i in kept])
    ctx.note(f"kept {len(kept)} of {len(walked)} frames; dropped: {_counts(dropped)}")
    return {"frames": ctx.folder / "frames.extxyz", "n_kept": len(kept), "dropped": dict(dropped)}


def forget(ctx: Context, settings: Forget, *, model: Path, backend: str) -> dict[str, Any]:
    """Re-initialise the chosen blocks; optimiser, EMA and schedule start afresh with the next training."""
    engine = registry.backend(backend)
    student = engine.forget(engine.load(model), settings.groups, settings.keep, settings.noise, ctx.seed)
    engine.save(student, ctx.folder / "model")
    return {"model": ctx.folder / "model"}


def _counts(dropped: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "none"
