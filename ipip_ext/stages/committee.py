"""committee and ask: how sure the students are, and whom to ask where they are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext import calculators
from ipip_ext import frames as fr
from ipip_ext.backends import registry
from ipip_ext.backends.base import FitData, FitHooks
from ipip_ext.committee import CommitteePotential, calibrate, frame_spread
from ipip_ext.compute import compute_each
from ipip_ext.dataset import same_structure
from ipip_ext.errors import StageFailed
from ipip_ext.potential import Potential
from ipip_ext.recipe import Finetune
from ipip_ext.schema import Section
from ipip_ext.seeds import derive
from ipip_ext.select import diverse
from ipip_ext.workspace import Context


def committee(
    ctx: Context, finetune: Finetune, *, student: Section, size: int, bootstrap: bool, pretrained: Path, tuned: Path,
    train: Path, valid: Path, pool: Path,
) -> dict[str, Any]:  # fmt: skip
    """Fine-tune the other members from the same pretrained student, and calibrate their spread on validation.

    Member 0 is the iteration's own student; each other one has a seed and, with `bootstrap`, a resample of
    the training frames of its own.
    """
    backend = registry.backend(student.backend)  # type: ignore[attr-defined]
    members = ctx.folder / "members"
    shutil.copytree(tuned, members / "0", dirs_exist_ok=True)
    labelled, held = fr.read_frames(train), fr.read_frames(valid)
    replay = fr.read_frames(pool) if finetune.replay_fraction > 0 else []
    start = backend.align_energies(backend.load(pretrained), labelled, ctx.device)
    for k in range(1, size):
        if (members / str(k) / "student.json").exists():  # finished before a kill
            continue
        seed = derive(ctx.seed, "member", k)
        seen = _resample(labelled, seed) if bootstrap else labelled
        data = FitData(seen, held, replay, finetune.replay_fraction, finetune.replay_weight)
        result = backend.fit(
            start, data, finetune, seed=seed, folder=ctx.folder / f"fit-{k}", device=ctx.device,
            hooks=FitHooks(progress=_member_progress(ctx, k, size)),
        )  # fmt: skip
        backend.save(result.model, members / str(k))
        shutil.rmtree(ctx.folder / f"fit-{k}", ignore_errors=True)
    joint = CommitteePotential.load(members, backend.name, ctx.device)
    found = calibrate(joint.opinions(held), held)
    (ctx.folder / "calibration.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    ctx.metric("committee_error_per_spread", found["error_per_spread"])
    ctx.metric("committee_rank_correlation", found["rank_correlation"])
    return {
        "members": members,
        "backend": backend.name,
        "calibration": ctx.folder / "calibration.json",
        "error_per_spread": found["error_per_spread"],
    }


def ask(
    ctx: Context, *, calculator: Any, budget: int, candidates_per_label: int, frames: Path, members: Path, backend: str,
    train: Path, valid: Path, test: Path,
) -> dict[str, Any]:  # fmt: skip
    """Label the frames that teach most with the reference method; they join the training set.

    Candidates are the frames on which the committee is least sure; of these the most diverse are asked for.
    A frame that equals a validation or test frame is never asked for.
    """
    engine = registry.backend(backend)
    walked = fr.read_frames(frames)
    known = [*fr.read_frames(valid), *fr.read_frames(test), *fr.read_frames(train)]
    joint = CommitteePotential.load(members, backend, ctx.device)
    spread = np.array([frame_spread(opinion) for opinion in joint.opinions(walked)])
    new = [i for i in range(len(walked)) if not any(_same(walked[i], other) for other in known)]
    unsure = sorted(new, key=lambda i: -spread[i])[: budget * candidates_per_label]
    picked: list[int] = []
    if unsure:
        features = engine.descriptors(engine.load(members / "0"), [walked[i] for i in unsure], ctx.device)
        picked = [unsure[i] for i in diverse(features, budget, 0.0)[0]]
    source = f"reference:{calculators.describe(calculator)}"
    labelled = _label_each(ctx, [walked[i] for i in picked], calculator, source)
    fr.write_frames(ctx.folder / "train.extxyz", [*fr.read_frames(train), *labelled])
    fr.write_frames(ctx.folder / "rest.extxyz", [frame for i, frame in enumerate(walked) if i not in picked])
    ctx.note(f"{len(labelled)} of {len(picked)} frames labelled by {source} join the training set")
    return {
        "train": ctx.folder / "train.extxyz",
        "rest": ctx.folder / "rest.extxyz",
        "n_labelled": len(labelled),
        "mean_spread_asked_meV_per_A": float(spread[picked].mean() * 1e3) if picked else 0.0,
        "mean_spread_meV_per_A": float(spread.mean() * 1e3) if len(spread) else 0.0,
    }


def _label_each(ctx: Context, frames: Sequence[Atoms], calculator: Any, source: str) -> list[Atoms]:
    """Label one frame after the other, each written at once: a reference label may have cost an hour."""
    potential: Potential = calculators.make(calculator, device=ctx.device, root=ctx.home)
    kept = ctx.folder / "labelled"
    kept.mkdir(exist_ok=True)
    done: list[Atoms] = []
    for index, frame in enumerate(frames):
        path = kept / f"{index:05d}.extxyz"
        if not path.exists():
            (prediction,), failures = compute_each(potential, [frame])
            if failures:
                ctx.note(f"no reference label for frame {frame.info[fr.ID]}: {failures[0]}")
            fr.write_frames(path, [] if failures else [fr.labelled(frame, prediction, source)])
        done += fr.read_frames(path)
        ctx.progress((index + 1) / len(frames), f"{index + 1}/{len(frames)} frames, {source}")
    if frames and not done:
        raise StageFailed(f"{ctx.name}: {source} could label none of {len(frames)} frames; see the notes above.")
    return done


def _member_progress(ctx: Context, k: int, size: int) -> Callable[[float, str], None]:
    return lambda share, text: ctx.progress((k - 1 + share) / (size - 1), f"member {k}: {text}")


def _resample(frames: Sequence[Atoms], seed: int) -> list[Atoms]:
    rows = np.random.default_rng(seed).integers(0, len(frames), len(frames))
    return [frames[i] for i in rows]


def _same(a: Atoms, b: Atoms) -> bool:
    return len(a) == len(b) and bool((a.numbers == b.numbers).all()) and same_structure(a, b)
