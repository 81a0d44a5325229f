"""committee and ask: how sure the students are, and whom to ask where they are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.backends import registry
from ipip_ext.backends.committee import CommitteePotential, calibrate, frame_spread
from ipip_ext.data import frames as fr
from ipip_ext.data import leakage
from ipip_ext.data.select import diverse
from ipip_ext.data.weights import counted
from ipip_ext.potentials.compute import compute_each
from ipip_ext.recipe.labels import Asking
from ipip_ext.recipe.schema import Section
from ipip_ext.recipe.training import Finetune
from ipip_ext.run import disk
from ipip_ext.run.stage import Context
from ipip_ext.stages.inputs import AT_ONCE, Batching, Candidates, Entry, Size, Task, Voters
from ipip_ext.stages.members import Members, train_members
from ipip_ext.stages.reference_labels import label_by_reference
from ipip_ext.teachers import entries

_PICKED = "picked.json"
"""Which frames are asked for, while their labels are made."""


def committee(
    ctx: Context, finetune: Finetune, *, student: Section, wanted: Size, pretrained: Path, tuned: Path, task: Task,
    pool: Path,
) -> dict[str, Any]:  # fmt: skip
    """Fine-tune the other members from the same pretrained student, and calibrate their spread on validation.

    Member 0 is the iteration's own student; each other one has a seed and, with `bootstrap`, a resample of
    the training frames of its own.
    """
    backend = student.backend  # type: ignore[attr-defined]
    held = fr.read_frames(task.valid)
    replayed = fr.read_frames(pool) if finetune.replay_fraction > 0 else []
    leakage.refuse(ctx.name, [*fr.read_frames(task.train), *replayed], leakage.held_out(ctx.root))
    trained = train_members(ctx, Members(backend, finetune, wanted.bootstrap, pretrained, task, pool), wanted.size)
    members = ctx.folder / "members"
    for number, model in {0: tuned, **trained}.items():
        shutil.copytree(model, members / str(number), dirs_exist_ok=True)
    shutil.rmtree(ctx.parts_folder)
    joint = CommitteePotential.load(members, backend, ctx.device)
    held = counted(held, "forces")
    found = calibrate(joint.opinions(held), held)
    (ctx.folder / "calibration.json").write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
    ctx.metric("committee_error_per_spread", found.error_per_spread)
    ctx.metric("committee_rank_correlation", found.rank_correlation)
    return {
        "members": members,
        "backend": backend,
        "calibration": ctx.folder / "calibration.json",
        "error_per_spread": found.error_per_spread,
    }


def ask(
    ctx: Context, settings: Asking, *, calculator: Entry, teacher: Entry, candidates: Candidates, voters: Voters,
    task: Task, test: Path, batching: Batching = AT_ONCE,
) -> dict[str, Any]:  # fmt: skip
    """Label the frames that teach most with the reference method; they leave where they were for the training set.

    A near duplicate of a training, validation or test frame is never asked for.
    """
    new, old = fr.read_frames(candidates.frames), fr.read_frames(candidates.pool)
    eligible = {"new": new, "pool": old, "both": [*new, *old]}[settings.among]
    picked, spread = _picked_before(ctx) or _pick(
        ctx, settings, teacher, eligible, voters, [task.valid, test, task.train]
    )
    picked = picked[: (len(new) + len(old)) // 2]  # a pool must remain
    chosen = [eligible[i] for i in picked]
    source = f"reference:{entries.describe(calculator)}"
    labelled = label_by_reference(ctx, chosen, calculator, source, batching)
    fr.write_frames(ctx.folder / "train.extxyz", [*fr.read_frames(task.train), *labelled])
    (ctx.folder / _PICKED).unlink(missing_ok=True)
    gone = {id(frame) for frame in chosen}
    rest, kept = ([frame for frame in some if id(frame) not in gone] for some in (new, old))
    fr.write_frames(ctx.folder / "rest.extxyz", rest)
    fr.write_frames(ctx.folder / "pool.extxyz", kept)
    ctx.note(
        f"{len(labelled)} of {len(chosen)} frames labelled by {source} join the training set,"
        f" {len(old) - len(kept)} of them from the pool"
    )
    return {
        "train": ctx.folder / "train.extxyz",
        "rest": ctx.folder / "rest.extxyz",
        "pool": ctx.folder / "pool.extxyz",
        "n_labelled": len(labelled),
        "mean_spread_asked_meV_per_A": float(spread[picked].mean() * 1e3) if picked else 0.0,
        "mean_spread_meV_per_A": float(spread.mean() * 1e3) if len(spread) else 0.0,
    }


def _pick(
    ctx: Context, settings: Asking, teacher: Entry, eligible: Sequence[Atoms], voters: Voters, known: Sequence[Path]
) -> tuple[list[int], NDArray[np.float64]]:
    """Return which of `eligible` to ask for, best first, and how far the committee is apart on each, eV/A.

    known: files of frames that are not asked for again. The choice is kept, for when this stage is called again.
    """
    joint = CommitteePotential.load(voters.members, voters.backend, ctx.device)
    spread = np.array([frame_spread(opinion) for opinion in joint.opinions(eligible)])
    there = leakage.Known([frame for path in known for frame in fr.read_frames(path)])
    taken = {twin.frame for twin in there.twins_in(eligible)}
    unsure = sorted((i for i in range(len(eligible)) if i not in taken), key=lambda i: -spread[i])
    if settings.choice == "power":
        unsure = powered(unsure, spread, ctx.seed)
    picked = _sane(ctx, settings, teacher, eligible, unsure)
    if settings.choice == "diverse" and picked:
        engine = registry.backend(voters.backend)
        features = engine.descriptors(engine.load(voters.members / "0"), [eligible[i] for i in picked], ctx.device)
        picked = [picked[i] for i in diverse(features, settings.budget, 0.0)[0]]
    picked = [int(i) for i in picked]
    disk.write(ctx.folder / _PICKED, json.dumps({"picked": picked, "spread_eV_per_A": spread.tolist()}))
    return picked, spread


def _picked_before(ctx: Context) -> tuple[list[int], NDArray[np.float64]] | None:
    """Return what an earlier call has picked, None if none has."""
    if not (ctx.folder / _PICKED).is_file():
        return None
    told = json.loads((ctx.folder / _PICKED).read_text(encoding="utf-8"))
    return told["picked"], np.array(told["spread_eV_per_A"])


def powered(rows: Sequence[int], spread: NDArray[np.float64], seed: int) -> list[int]:
    """Return `rows` in the order of a draw without replacement, with chances in proportion to their spread.

    Power acquisition (Kirsch et al., Trans. Mach. Learn. Res. (2023), arXiv:2106.12059) by Gumbel's trick.
    """
    gumbel = np.random.default_rng(seed).gumbel(size=len(rows))
    score = np.log(np.maximum(spread[list(rows)], 1e-12)) + gumbel
    return [rows[i] for i in np.argsort(-score, kind="stable")]


def _sane(ctx: Context, settings: Asking, teacher: Any, walked: Sequence[Atoms], order: Sequence[int]) -> list[int]:
    """Return the first frames of `order` that the teacher finds sane, as many as there are to be candidates.

    Where a student lacks repulsion its MD goes, its committee agrees on little, and a reference label would be spent
    on what any teacher knows.
    """
    wanted = settings.budget * (settings.candidates_per_label if settings.choice == "diverse" else 1)
    limit = settings.max_teacher_force_eV_per_A
    if limit is None:
        return list(order[:wanted])
    potential = entries.make(teacher, device=ctx.device, root=ctx.home)
    sane: list[int] = []
    looked_at = 0
    while len(sane) < wanted and looked_at < len(order):
        some = order[looked_at : looked_at + wanted - len(sane)]
        looked_at += len(some)
        said, failures = compute_each(potential, [walked[i] for i in some])
        largest = [np.linalg.norm(p.forces_eV_per_A, axis=1).max() for p in said]
        sane += [i for k, i in enumerate(some) if k not in failures and largest[k] <= limit]
    if left_out := looked_at - len(sane):
        ctx.note(f"{left_out} frames are not asked for: by the teacher a force in them is above {limit:g} eV/A")
    return sane
