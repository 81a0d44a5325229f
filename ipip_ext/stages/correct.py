"""correct: fit what the teacher lacks on the training frames, and mend the first pool by it.

Once more where the reference method labelled more of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.errors import StageFailed
from ipip_ext.potentials.base import Potential, Prediction
from ipip_ext.recipe.labels import Correction
from ipip_ext.run.stage import Context
from ipip_ext.stages.inputs import Entry
from ipip_ext.stages.labelling import predict_all
from ipip_ext.teachers import entries
from ipip_ext.teachers.correction.fit import Trial, fit
from ipip_ext.teachers.correction.fitted import TeacherCorrection

_MOST_FRAMES = 500
"""Training frames to fit to, evenly taken: a few hundred coefficients need no more."""


def correct(ctx: Context, settings: Correction, *, teacher: Entry, train: Path, pool: Path | None) -> dict[str, Any]:
    """Fit the correction and apply it to the pool, if any. Only training frames are seen, never validation or test."""
    potential = entries.make(teacher, device=ctx.device, root=ctx.home)
    labelled = fr.read_frames(train)
    frames, said = _labels(ctx, potential, labelled[:: -(-len(labelled) // _MOST_FRAMES)])
    correction, trials = fit(frames, said, settings, fr.elements(labelled))
    on_train = f"{_change(said, correction.apply(frames, said)):.0%} on train"
    changes = on_train if pool is None else f"{on_train} and {_mend(ctx, correction, pool):.0%} on the pool"
    correction.write(ctx.folder / "correction.json", cross_validation=[asdict(trial) for trial in trials])
    errors = {trial.form: trial.force_mae_meV_per_A for trial in trials}
    ctx.metric("correction_cv_force_mae_meV_per_A", errors[correction.form])
    ctx.metric("correction_cv_force_mae_none_meV_per_A", errors["none"])
    _tell(ctx, correction, trials, changes)
    return {
        **({} if pool is None else {"frames": ctx.folder / "pool.extxyz"}),
        "correction": ctx.folder / "correction.json",
        "form": correction.form,
        "cv_force_mae_meV_per_A": errors,
    }


def _mend(ctx: Context, correction: TeacherCorrection, pool: Path) -> float:
    """Correct the pool's labels, and return by what share that changes its forces."""
    old = fr.read_frames(pool)
    told = [fr.labels_of(frame) for frame in old]
    mended = correction.apply(old, told)
    fr.write_frames(
        ctx.folder / "pool.extxyz",
        [fr.labelled(f, p, f"{f.info[fr.SOURCE]}{correction.suffix}") for f, p in zip(old, mended, strict=True)],
    )
    return _change(told, mended)


def _labels(ctx: Context, potential: Potential, frames: Sequence[Atoms]) -> tuple[list[Atoms], list[Prediction]]:
    """Return the frames that the teacher can label, and its labels."""
    kept, said = predict_all(ctx, frames, potential, potential.name)
    if not kept:
        raise StageFailed(f"{ctx.name}: {potential.name} can label none of {len(frames)} training frames.")
    return kept, said


def _tell(ctx: Context, correction: TeacherCorrection, trials: Sequence[Trial], changes: str) -> None:
    errors = {trial.form: trial.force_mae_meV_per_A for trial in trials}
    found, plain = errors[correction.form], errors["none"]
    others = ", ".join(f"{k} {v:.0f}" for k, v in errors.items() if k not in ("none", correction.form))
    ctx.note(
        f"correction {correction.form}: the teacher's cross-validated force error falls from {plain:.0f} to"
        f" {found:.0f} meV/A{others and f' ({others})'};"
        f" forces change by {changes}"
    )
    if found > plain:
        ctx.note(f"correction {correction.form} is worse than none; correct.form: auto would not take it")


def _change(before: Sequence[Prediction], after: Sequence[Prediction]) -> float:
    """Return the RMS change of the forces as a share of their RMS: far larger on the pool means extrapolation."""
    old, new = (np.concatenate([p.forces_eV_per_A for p in labels]) for labels in (before, after))
    return float(np.sqrt(np.mean((new - old) ** 2) / max(np.mean(old**2), 1e-12)))
