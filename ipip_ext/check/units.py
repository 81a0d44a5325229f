"""Are labels in eV and Angstrom? Held against what the teacher says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Array, FrameFailed, Potential, Prediction

_PROBES = 12
_FREE = 6
"""Energies left to compare once each element has its zero; fewer may agree by chance."""


def check_units(path: Path, frames: Sequence[Atoms], teacher: Potential) -> None:
    """Raise DataError if labels are a constant times what the teacher says, far from 1.

    A teacher may be wrong by half, not by the 23 of kcal/mol or the 0.02 of hartree/bohr.
    """
    some = frames[:: max(1, len(frames) // _PROBES)][:_PROBES]
    try:
        said = teacher.compute(some)
    except FrameFailed as error:
        raise DataError(
            f"{path}: frame {some[error.index].info[fr.ID]}: the teacher can't label it ({error.message});"
            " take it out, or choose another teacher."
        ) from None
    labels = [fr.labels_of(frame) for frame in some]
    slope = _slope(_forces(said), _forces(labels), agree=0.6)
    if not 1 / 6 < slope < 6:
        raise DataError(
            f"{path}: forces are {slope:.3g} times what {teacher.name} gives; that looks like another unit"
            " (kcal/mol/A: 23, hartree/bohr: 0.019). Convert them to eV/A."
        )
    if len(some) - len(fr.elements(some)) < _FREE:
        return
    slope = _slope(_energies_above_zeros(some, said), _energies_above_zeros(some, labels), agree=0.9)
    if not 1 / 6 < slope < 6:
        raise DataError(
            f"{path}: energies are {slope:.3g} times what {teacher.name} gives; that looks like another unit"
            " (kcal/mol: 23, hartree: 0.037) or like energies per atom. Convert them to eV per cell."
        )


def _forces(predictions: Sequence[Prediction]) -> Array:
    return np.concatenate([p.forces_eV_per_A.ravel() for p in predictions])


def _energies_above_zeros(frames: Sequence[Atoms], predictions: Sequence[Prediction]) -> Array:
    counts = fr.composition(frames, sorted(fr.elements(frames)))
    energy = np.array([p.energy_eV for p in predictions])
    return energy - counts @ metrics.fit_zeros(counts, energy)


def _slope(said: Array, wanted: Array, *, agree: float) -> float:
    """Return how many times larger `wanted` is; 1 where they correlate by less than `agree` and so tell nothing."""
    if np.std(said) < 1e-6 or np.std(wanted) < 1e-6 or np.corrcoef(said, wanted)[0, 1] < agree:
        return 1.0
    return float(said @ wanted / (said @ said))
