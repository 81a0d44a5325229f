"""calibration: does a committee's expected error hold where it was not calibrated? Told on the test frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.backends.committee import CommitteePotential, Opinion, calibrate
from ipip_ext.data import frames as fr
from ipip_ext.run.stage import Context
from ipip_ext.stages.evaluate import splits_of
from ipip_ext.stages.inputs import Exam, Voters

SAID = ("error_per_expected", "rank_correlation", "within_1x", "within_2x")


def calibration(
    ctx: Context, *, voters: Voters, error_per_spread: float, exam: Exam
) -> dict[str, Any]:  # fmt: skip
    """Set expected force errors beside true ones, split by split; nothing is chosen by it.

    error_per_expected: RMS error over RMS expected error, which is 1 on validation by construction; above 1 the
    committee is too sure. within_1x, within_2x: share of force components whose error is below once and twice what
    is expected for their atom: 0.68 and 0.95 if errors were Gaussian of just that width. The spread of few members
    is itself uncertain, so that even where the expected error is right on average less lies within 2x.
    """
    joint = CommitteePotential.load(voters.members, voters.backend, ctx.device, error_per_spread)
    frames = fr.read_frames(exam.test)
    opinions: list[Opinion] = []
    for start in range(0, len(frames), exam.batch_size):
        opinions += joint.opinions(frames[start : start + exam.batch_size])
        ctx.progress(len(opinions) / len(frames), f"{len(opinions)}/{len(frames)} frames")
    labelled = {
        split: [i for i in rows if fr.FORCES in frames[i].arrays] for split, rows in splits_of(frames, exam).items()
    }
    found = {
        split: check([opinions[i] for i in rows], [frames[i] for i in rows], error_per_spread)
        for split, rows in labelled.items()
        if rows
    }
    for split, told in found.items():
        for key in SAID:
            ctx.metric(f"{split}_{key}", told[key])
    (ctx.folder / "test.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return {"test": ctx.folder / "test.json"}


def check(opinions: Sequence[Opinion], frames: Sequence[Atoms], error_per_spread: float) -> dict[str, Any]:
    """Return n_atoms, the numbers of `calibration`, and the curve of `committee.calibrate` for these frames."""
    here = calibrate(opinions, frames)
    spread = np.concatenate([opinion.force_spread_eV_per_A for opinion in opinions])
    error = np.concatenate(
        [np.abs(o.mean.forces_eV_per_A - f.arrays[fr.FORCES]) for o, f in zip(opinions, frames, strict=True)]
    )
    expected = error_per_spread * spread[:, None]
    return {
        "n_atoms": len(spread),
        "error_per_expected": here.error_per_spread / max(error_per_spread, 1e-12),
        "rank_correlation": here.rank_correlation,
        "within_1x": float(np.mean(error < expected)),
        "within_2x": float(np.mean(error < 2 * expected)),
        "curve": here.curve,
    }
