"""Labels of a file held against each other, before they are believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.data.invariants import Look, look_at
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Array
from ipip_ext.units import MEV_PER_EV

_MOST_MEAN_FORCE, _LEAST_MEAN_FORCE = 25.0, 1e-4
"""Mean force component, eV/A, beyond which no structure that is worth learning lies."""

_MOST_SPREAD = 20.0
"""RMS scatter of energies about their composition, eV/atom, that no structures explain."""

_FEW = 0.1
"""Share of frames that are taken for mistakes where the others are fine; of more it is the file that is wrong."""

_DEVIATIONS, _SIGMA_PER_MAD = 10.0, 1.4826
"""Robust standard deviations from the median at which a label stands out."""

_FEWEST = 8
"""Frames of which an outlier can be told."""

_LEAST_ENERGY_SPREAD, _LEAST_FORCE_SPREAD = 0.005, 0.5
"""Standard deviations below which nothing stands out, eV/atom and eV/A."""

_NOBLE = frozenset({2, 10, 18, 36, 54, 86})
_FAR, _NEAR = 1.5, 0.55
"""Nearest atoms of most frames in units of the sum of covalent radii, beyond which positions are in another unit."""

_SHOWN = 3


def check_labels(path: Path, frames: Sequence[Atoms]) -> list[str]:
    """Return a sentence on each thing that looks wrong; what they are of is the first word.

    Raises DataError, naming the remedy and the frame where it is one that is to blame, for labels that can't be right.
    """
    looks = look_at(frames)
    _check_positions(path, frames, looks)
    _check_forces(path, frames)
    _check_energies_differ(path, frames, looks)
    energies = energies_above_zeros(frames)
    _check_energies(path, frames, energies)
    return [*_energy_outliers(path, frames, energies), *_force_outliers(path, frames, largest_forces(frames))]


def energies_above_zeros(frames: Sequence[Atoms]) -> Array:
    """Return the energy of each frame above what its composition gives, (n_frames,) eV/atom; NaN where it has none."""
    counts = fr.composition(frames, sorted(fr.elements(frames)))
    energy_eV = np.array([frame.info.get(fr.ENERGY, np.nan) for frame in frames])
    has = np.isfinite(energy_eV)
    zeros = metrics.fit_zeros(counts[has], energy_eV[has]) if has.any() else np.zeros(counts.shape[1])
    return np.asarray((energy_eV - counts @ zeros) / counts.sum(axis=1))


def largest_forces(frames: Sequence[Atoms]) -> Array:
    """Return the length of the largest force of each frame, (n_frames,) eV/A; NaN where it has none."""
    return np.array(
        [
            np.linalg.norm(frame.arrays[fr.FORCES], axis=1).max() if fr.FORCES in frame.arrays else np.nan
            for frame in frames
        ]
    )


def name_of(frames: Sequence[Atoms], index: int) -> str:
    """Return how messages name a frame: its place in the file and its id."""
    return f"frame {index} ({frames[index].info.get(fr.ID, '?')})"


def _check_positions(path: Path, frames: Sequence[Atoms], looks: Sequence[Look]) -> None:
    closest = [
        look.closest
        for frame, look in zip(frames, looks, strict=True)
        if np.isfinite(look.closest) and not set(frame.numbers.tolist()) <= _NOBLE
    ]
    if not closest:
        return
    median = float(np.median(closest))
    nearest_A = float(np.median([look.nearest_A for look in looks]))
    if median > _FAR:
        raise DataError(
            f"{path}: the nearest atoms are {nearest_A:.3g} A apart, {median:.2g} times a bond; are positions and cell"
            " in bohr? Multiply them by 0.529177."
        )
    if median < _NEAR:
        raise DataError(
            f"{path}: the nearest atoms are {nearest_A:.3g} A apart, {median:.2g} times a bond; are positions in nm, or"
            " fractions of the cell? Give them in Angstrom."
        )


def _check_energies_differ(path: Path, frames: Sequence[Atoms], looks: Sequence[Look]) -> None:
    rows = [row for row, frame in enumerate(frames) if fr.ENERGY in frame.info]
    energy_eV = np.array([frames[row].info[fr.ENERGY] for row in rows])
    means = np.array([looks[row].means for row in rows])
    if len(rows) > 1 and np.ptp(energy_eV) == 0 and np.ptp(means, axis=0).max() > 1e-3:
        raise DataError(f"{path}: all energies are equal ({energy_eV[0]:g} eV); were they written?")


def _check_forces(path: Path, frames: Sequence[Atoms]) -> None:
    """Of frames of one atom, whose forces are zero by symmetry, nothing is said."""
    rows = [index for index, frame in enumerate(frames) if len(frame) > 1 and fr.FORCES in frame.arrays]
    if not rows:
        return
    means = np.array([np.abs(frames[index].arrays[fr.FORCES]).mean() for index in rows])
    sizes = np.array([len(frames[index]) for index in rows])
    mean = float(np.average(means, weights=sizes))
    if mean > _MOST_MEAN_FORCE:
        few = means > _MOST_MEAN_FORCE
        if few.mean() <= _FEW:
            worst = rows[int(means.argmax())]
            raise DataError(
                f"{path}: {name_of(frames, worst)}: its mean force component is {means.max():.3g} eV/A, that of the"
                f" others {np.average(means[~few], weights=sizes[~few]):.3g}; label it again or take it out"
                f"{_others(int(few.sum()) - 1)}."
            )
        raise DataError(
            f"{path}: the mean force component is {mean:.3g} eV/A; are the forces in kcal/mol/A, meV/A or Ry/bohr?"
            " Convert them to eV/A."
        )
    if mean < _LEAST_MEAN_FORCE:
        raise DataError(f"{path}: all forces are (nearly) zero ({mean:.1e} eV/A on average); were they written?")


def _check_energies(path: Path, frames: Sequence[Atoms], energies: Array) -> None:
    has = np.isfinite(energies)
    spread = float(np.sqrt(np.mean(energies[has] ** 2))) if has.any() else 0.0
    if spread <= _MOST_SPREAD:
        return
    few = np.abs(energies) > _MOST_SPREAD
    if few[has].mean() <= _FEW:
        worst, others = int(np.nanargmax(np.abs(energies))), np.sqrt(np.mean(energies[has & ~few] ** 2))
        raise DataError(
            f"{path}: {name_of(frames, worst)}: its energy is {energies[worst]:+.3g} eV/atom from what its composition"
            f" gives, those of the others {others:.3g}; label it again or take it out"
            f"{_others(int(few.sum()) - 1)}."
        )
    raise DataError(
        f"{path}: energies per atom scatter by {spread:.3g} eV about their composition;"
        " are they in meV, kcal/mol, or per cell of another size? Convert them to eV per cell."
    )


def _energy_outliers(path: Path, frames: Sequence[Atoms], energies: Array) -> Iterator[str]:
    """Yield a sentence on frames whose energy is far from what their composition gives."""
    if not np.isfinite(energies).any():
        return
    off = energies - np.nanmedian(energies)
    for rows in _outliers(np.abs(off), _LEAST_ENERGY_SPREAD, len(fr.elements(frames))):
        yield (
            f"{path.name}: energies of {_told(frames, rows)} stand out; the first is {off[rows[0]] * MEV_PER_EV:+.0f}"
            f" meV/atom from what its composition gives, half of all within"
            f" {np.nanmedian(np.abs(off)) * MEV_PER_EV:.0f}. Label them again or take them out if they are wrong."
        )


def _force_outliers(path: Path, frames: Sequence[Atoms], forces: Array) -> Iterator[str]:
    """Yield a sentence on frames with a force far above the largest of the others."""
    if not np.isfinite(forces).any():
        return
    median = np.nanmedian(forces)
    for rows in _outliers(forces - median, _LEAST_FORCE_SPREAD, 1):
        yield (
            f"{path.name}: forces of {_told(frames, rows)} stand out; the largest of the first is {forces[rows[0]]:.3g}"
            f" eV/A, that of half of all below {median:.3g}. Label them again, take them out, or set"
            " data.max_force_eV_per_A."
        )


def _outliers(above: Array, least_spread: float, n_fitted: int) -> Iterator[list[int]]:
    """Yield the rows, the farthest first, that are too many robust standard deviations above zero, if there are any."""
    if np.isfinite(above).sum() - n_fitted < _FEWEST:
        return
    spread = max(_SIGMA_PER_MAD * float(np.nanmedian(np.abs(above))), least_spread)
    rows = np.flatnonzero(above > _DEVIATIONS * spread)
    if len(rows):
        yield rows[np.argsort(-above[rows], kind="stable")].tolist()


def _told(frames: Sequence[Atoms], rows: Sequence[int]) -> str:
    names = ", ".join(name_of(frames, row) for row in rows[:_SHOWN])
    return f"{names} and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else names


def _others(count: int) -> str:
    return f"; so {'is 1' if count == 1 else f'are {count}'} more" if count > 0 else ""
