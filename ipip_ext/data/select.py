"""Choose among sampled frames: drop near duplicates, then keep a diverse few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 8_000_000
"""Distances in memory at a time: 64 MB."""


def diverse(
    features: NDArray[np.float64], most: int, tolerance: float, seen: NDArray[np.float64] | None = None
) -> tuple[list[int], int]:
    """Return indices of at most `most` rows, far from each other and from `seen`, and how many were too near.

    Farthest-point sampling (Gonzalez, Theor. Comput. Sci. 38, 293 (1985)) on features scaled to unit
    variance; it ends when the farthest row is nearer than `tolerance` times the typical distance.
    features: (n, d). seen: (m, d) or None.
    """
    if len(features) == 0:
        return [], 0
    spread = features.std(axis=0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    rows = features / scale
    nearest = _distance_to(rows, seen / scale) if seen is not None and len(seen) else np.full(len(rows), np.inf)
    limit = tolerance * np.sqrt(rows.shape[1])
    chosen: list[int] = []
    while len(chosen) < min(most, len(rows)):
        far = int(np.argmax(nearest)) if np.isfinite(nearest).all() else _central(rows)
        if nearest[far] <= limit:
            break
        chosen.append(far)
        nearest = np.minimum(nearest, np.linalg.norm(rows - rows[far], axis=1))
    rest = np.setdiff1d(np.arange(len(rows)), chosen)
    return sorted(chosen), int(np.sum(nearest[rest] <= limit))


def _central(rows: NDArray[np.float64]) -> int:
    return int(np.argmin(np.linalg.norm(rows - rows.mean(axis=0), axis=1)))


def _distance_to(rows: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each row is from the nearest of `others`, (n,), a block of them in memory at a time."""
    at_once = max(1, _AT_ONCE // len(others))
    sizes = (others**2).sum(axis=1)[None, :]
    nearest = [np.empty(0)]
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        # |a-b|^2 = |a|^2 + |b|^2 - 2ab needs no n x m x d
        square = (some**2).sum(axis=1)[:, None] + sizes - 2 * some @ others.T
        nearest.append(np.sqrt(np.maximum(square, 0.0)).min(axis=1))
    return np.concatenate(nearest)
