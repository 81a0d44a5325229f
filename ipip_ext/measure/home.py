"""How much of some frames lies outside of what a model has learnt, and whether its errors grow with the distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from scipy.stats import spearmanr

from ipip_ext.data import frames as fr
from ipip_ext.potentials.base import Array
from ipip_ext.potentials.home import EDGE, farthest
from ipip_ext.units import MEV_PER_EV

Row = dict[str, Any]


def rows_of(frames: Sequence[Atoms], distances: Sequence[Array]) -> list[Row]:
    """Return a line a frame: how far from home its farthest atom is, which that is, and how many are outside.

    distances: home distance of each atom, (n_atoms,) a frame.
    """
    found = []
    for frame, own in zip(frames, distances, strict=True):
        atom = farthest(own)
        found.append(
            {
                "frame_id": frame.info.get(fr.ID, ""),
                "n_atoms": len(frame),
                "home_distance": float(own[atom]),
                "n_atoms_outside": int(np.count_nonzero(own > EDGE)),
                "farthest_atom": atom,
                "farthest_element": str(frame.symbols[atom]),
            }
        )
    return found


def outside(distances: Sequence[Array]) -> dict[str, float]:
    """Return how many frames there are, how many have an atom outside, and the share of all atoms that are."""
    atoms = np.concatenate(distances)
    return {
        "n_frames": len(distances),
        "n_frames_outside": sum(bool((own > EDGE).any()) for own in distances),
        "atoms_outside_share": float(np.mean(atoms > EDGE)),
    }


def worth(distances: Sequence[Array], errors_eV_per_A: Sequence[Array]) -> dict[str, float | None]:
    """Return force errors inside and outside, and Spearman's correlations of distance and error.

    errors_eV_per_A: absolute errors of force components, (n_atoms, 3) a frame. None for what there is nothing of.
    """
    is_outside = np.array([bool((own > EDGE).any()) for own in distances])
    frames = np.array([float(error.mean()) for error in errors_eV_per_A])
    largest = np.array([float(own.max()) for own in distances])
    atoms = np.linalg.norm(np.concatenate(errors_eV_per_A), axis=1)
    return {
        "force_mae_inside_meV_per_A": _mean(errors_eV_per_A, ~is_outside),
        "force_mae_outside_meV_per_A": _mean(errors_eV_per_A, is_outside),
        "frames_rank_correlation": rank_correlation(largest, frames),
        "atoms_rank_correlation": rank_correlation(np.concatenate(distances), atoms),
    }


def rank_correlation(one: Array, other: Array) -> float | None:
    """Return Spearman's rank correlation of two series, None where one is constant or there are fewer than three."""
    if len(one) < 3 or len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return None
    return float(spearmanr(one, other).statistic)


def _mean(errors_eV_per_A: Sequence[Array], mask: Array) -> float | None:
    some = [error for error, wanted in zip(errors_eV_per_A, mask, strict=True) if wanted]
    return float(np.concatenate(some).mean()) * MEV_PER_EV if some else None
