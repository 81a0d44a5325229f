"""The factor on the learning rate, step by step: warm-up, then constant or along a cosine."""

from __future__ import annotations

import math

from ipip_ext.recipe.training import Fit


def factor(step: int, n_steps: int, settings: Fit) -> float:
    """Return the factor on `settings.lr` in step `step`, counted from 0, of a training of `n_steps`.

    `plateau` is constant here: what validations have taken off it is `Progress.plateau_factor`.
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule != "cosine":
        return 1.0
    share = (step - settings.warmup_steps) / max(1, n_steps - settings.warmup_steps)
    low = settings.lr_final_fraction
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
