"""select, label and forget: what happens between two iterations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext import calculators
from ipip_ext import frames as fr
from ipip_ext import select as choose
from ipip_ext.backends import registry
from ipip_ext.compute import compute_each
from ipip_ext.potential import Potential
from ipip_ext.recipe import Forget, Label, Select
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


def label(
    ctx: Context, settings: Label, *, frames: Path, old: Path, model: Path, backend: str, teacher: Any
) -> dict[str, Any]:
    """Label the selected frames by the policy, and add the share of the old pool that is retained."""
    chosen = fr.read_frames(frames)
    if settings.policy == "teacher":
        potential = calculators.make(teacher, device=ctx.device, root=ctx.home)
        source = f"teacher:{potential.name}"
    else:
        engine = registry.backend(backend)
        potential = engine.potential(engine.load(model), ctx.device)
        source = f"self:{ctx.name.split('/', maxsplit=1)[0]}"
    fresh = _label(ctx, chosen, potential, source)
    pool = fr.read_frames(old)
    share = settings.retain if fresh else 1.0  # with nothing new, forgetting the old would leave nothing
    kept = sorted(np.random.default_rng(ctx.seed).permutation(len(pool))[: round(share * len(pool))])
    fr.write_frames(ctx.folder / "pool.extxyz", [*fresh, *(pool[i] for i in kept)])
    ctx.note(f"pool: {len(fresh)} new frames labelled by {source}, {len(kept)} of {len(pool)} old ones retained")
    failed = len(chosen) - len(fresh)
    return {"frames": ctx.folder / "pool.extxyz", "n_new": len(fresh), "n_retained": len(kept), "n_failed": failed}


def forget(ctx: Context, settings: Forget, *, model: Path, backend: str) -> dict[str, Any]:
    """Re-initialise the chosen blocks; optimiser, EMA and schedule start afresh with the next training."""
    engine = registry.backend(backend)
    student = engine.forget(engine.load(model), settings.groups, settings.keep, settings.noise, ctx.seed)
    engine.save(student, ctx.folder / "model")
    return {"model": ctx.folder / "model"}


def _label(ctx: Context, frames: Sequence[Atoms], potential: Potential, source: str) -> list[Atoms]:
    """Label all frames; one that the potential can't compute is left out and told of."""
    done: list[Atoms] = []
    for start in range(0, len(frames), _AT_ONCE):
        batch = frames[start : start + _AT_ONCE]
        predictions, failures = compute_each(potential, batch)
        for index, why in failures.items():
            ctx.note(f"no label for frame {batch[index].info[fr.ID]}: {why}")
        pairs = enumerate(zip(batch, predictions, strict=True))
        done += [fr.labelled(frame, label, source) for index, (frame, label) in pairs if index not in failures]
        ctx.progress((start + len(batch)) / len(frames), f"{start + len(batch)}/{len(frames)} frames, {source}")
    return done


_AT_ONCE = 32


def _counts(dropped: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "none"
