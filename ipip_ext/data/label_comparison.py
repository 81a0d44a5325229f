"""Labels held against a teacher's: their units, their signs and their order.

A teacher may be wrong by half, not by the 23 of kcal/mol, the 0.02 of hartree/bohr or the -1 of a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.optimize import linear_sum_assignment

from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Array, Prediction
from ipip_ext.units import MEV_PER_EV

_FREE = 6
"""Energies left to compare once each element has its zero; fewer may agree by chance."""

_AGREE, _ENERGIES_AGREE = 0.6, 0.9
"""Correlation from which a factor between labels and the teacher's means something."""

_ORDERED = 0.95
"""Correlation from which labels in another order of atoms are the right ones."""

_MOST_ORDERED = 500
"""Atoms that are put in order: the work grows with their cube."""

_MOST_FACTOR, _LIKELY_FACTOR = 6.0, 1.7
"""Factor, or one over it, beyond which labels are in another unit, and beyond which they may be."""

_WITHIN = 0.15
"""Share by which a factor may be off a known one."""

_FORCE_UNITS = {"kcal/mol/A": 23.06, "kJ/mol/A": 96.49, "meV/A": 1000.0, "eV/nm": 10.0, "eV/bohr": 0.5292,
                "hartree/bohr": 0.01945, "Ry/bohr": 0.03889}  # fmt: skip
_ENERGY_UNITS = {"kcal/mol": 23.06, "kJ/mol": 96.49, "meV": 1000.0, "hartree": 0.03675, "Ry": 0.0735}
_STRESS_UNITS = {"GPa": 160.22, "kbar": 1602.2, "MPa": 160218.0, "bar": 1602177.0, "hartree/bohr^3": 0.005446,
                 "Ry/bohr^3": 0.01089}  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """What the teacher's labels are to those of some frames: a line through the origin, its slope and correlation.

    slope: how many times larger labels are. energy_slope: of energies above the zeros of elements. NaN where there are
    too few, or where they don't vary.
    """

    n_frames: int
    force_mae_meV_per_A: float
    slope: float
    correlation: float
    energy_slope: float
    energy_correlation: float

    def __str__(self) -> str:
        known = not np.isnan(self.force_mae_meV_per_A)
        said = [f"force MAE {self.force_mae_meV_per_A:.0f} meV/A" if known else "no forces to compare"]
        if not np.isnan(self.slope):
            said += [f"slope {self.slope:.2f}", f"correlation {self.correlation:.2f}"]
        said[-1] += f" on {self.n_frames} frames"
        if not np.isnan(self.energy_slope):
            said += [f"energies: slope {self.energy_slope:.2f}", f"correlation {self.energy_correlation:.2f}"]
        return ", ".join(said)


def compare(
    path: Path, frames: Sequence[Atoms], said: Sequence[Prediction], teacher: str
) -> tuple[Agreement, list[str]]:
    """Return how labels and the teacher's agree, and a sentence on each thing that looks wrong.

    said: the teacher's labels, with stress where it has some. teacher: its name.
    Raises DataError for labels that are a constant times what the teacher says, far from 1, or in another order.
    """
    labels = [fr.labels_where_known(frame) for frame in frames]
    with_forces = [i for i, frame in enumerate(frames) if fr.FORCES in frame.arrays]
    wanted, given = ([some[i].forces_eV_per_A for i in with_forces] for some in (labels, said))
    force = _Line.through(_rows(given).ravel(), _rows(wanted).ravel())
    energy = _energy_line(frames, said, labels)
    findings = [
        *_check_forces(path, force, given, wanted, teacher),
        *_check_energies(path, energy, force, frames, teacher),
        *_check_stress(path, frames, said, labels, teacher),
    ]
    mae = float(np.mean(np.abs(_rows(given) - _rows(wanted)))) * MEV_PER_EV if with_forces else np.nan
    found = Agreement(len(frames), mae, force.slope, force.correlation, energy.slope, energy.correlation)
    return found, findings


def _rows(forces: Sequence[Array]) -> Array:
    return np.concatenate([np.zeros((0, 3)), *forces])


def _energy_line(frames: Sequence[Atoms], said: Sequence[Prediction], labels: Sequence[Prediction]) -> _Line:
    rows = [i for i, frame in enumerate(frames) if fr.ENERGY in frame.info]
    some = [frames[i] for i in rows]
    if len(some) - len(fr.elements(some)) < _FREE:
        return _Line(np.nan, np.nan)
    given, wanted = ([p[i] for i in rows] for p in (said, labels))
    return _Line.through(above_zeros(some, given), above_zeros(some, wanted))


def above_zeros(frames: Sequence[Atoms], predictions: Sequence[Prediction]) -> Array:
    """Return energies, (n_frames,) eV, less one zero an element."""
    counts = fr.composition(frames, sorted(fr.elements(frames)))
    energy_eV = np.array([p.energy_eV for p in predictions])
    return np.asarray(energy_eV - counts @ metrics.fit_zeros(counts, energy_eV))


@dataclass(frozen=True)
class _Line:
    """Labels against the teacher's: slope through the origin, and correlation; NaN where one of both doesn't vary."""

    slope: float
    correlation: float

    @classmethod
    def through(cls, said: Array, wanted: Array) -> _Line:
        if not len(said) or np.std(said) < 1e-6 or np.std(wanted) < 1e-6:
            return cls(np.nan, np.nan)
        return cls(float(said @ wanted / (said @ said)), float(np.corrcoef(said, wanted)[0, 1]))

    def is_other_unit(self, agree: float) -> bool:
        return self.correlation >= agree and not 1 / _MOST_FACTOR < self.slope < _MOST_FACTOR

    def may_be(self, agree: float) -> bool:
        return self.correlation >= agree and not 1 / _LIKELY_FACTOR < self.slope < _LIKELY_FACTOR


def _check_forces(
    path: Path, line: _Line, given: Sequence[Array], wanted: Sequence[Array], teacher: str
) -> Iterator[str]:
    what = f"forces are {line.slope:.3g} times what {teacher} gives"
    if line.correlation <= -_AGREE and 1 / _MOST_FACTOR < -line.slope < _MOST_FACTOR:
        raise DataError(f"{path}: {what}: are they gradients? Change their sign.")
    if line.is_other_unit(_AGREE):
        raise DataError(
            f"{path}: {what}; that looks like another unit{_guess(line.slope, _FORCE_UNITS)} (kcal/mol/A: 23,"
            " hartree/bohr: 0.019). Convert them to eV/A."
        )
    if line.may_be(_AGREE):
        yield (
            f"{path.name}: {what} (correlation {line.correlation:.2f}); is that the teacher's error, or another"
            f" unit{_guess(line.slope, _FORCE_UNITS)}?"
        )
    if line.correlation < _AGREE:
        if _is_in_other_order(given, wanted):
            raise DataError(
                f"{path}: forces are what {teacher} gives for the same atoms in another order; put the rows of the"
                " labels in the order of the positions."
            )
        yield (
            f"{path.name}: forces hardly agree with what {teacher} gives (correlation {line.correlation:.2f}); are they"
            " of these structures, and in the order of their atoms?"
        )


def _is_in_other_order(given: Sequence[Array], wanted: Sequence[Array]) -> bool:
    """Return whether forces agree once those of each frame are in the order that suits them best.

    With many atoms some order suits any forces, so they must agree far better than with the opposite of what is said.
    """
    if not 3 <= np.mean([len(forces) for forces in given]) <= _MOST_ORDERED:
        return False
    own, chance = _best_order(given, wanted), _best_order([-forces for forces in given], wanted)
    return own > _ORDERED and 1 - own < (1 - chance) / 4


def _best_order(given: Sequence[Array], wanted: Sequence[Array]) -> float:
    """Return the correlation of forces once those of each frame are in the order that suits them best."""
    ordered = []
    for said, labels in zip(given, wanted, strict=True):
        rows, columns = linear_sum_assignment(np.linalg.norm(said[:, None] - labels[None], axis=2))
        ordered.append(labels[columns[np.argsort(rows)]])
    return _Line.through(np.concatenate(given).ravel(), np.concatenate(ordered).ravel()).correlation


def _check_energies(path: Path, line: _Line, force: _Line, frames: Sequence[Atoms], teacher: str) -> Iterator[str]:
    if np.isnan(line.slope):
        return
    what = f"energies are {line.slope:.3g} times what {teacher} gives"
    if line.correlation <= -_ENERGIES_AGREE:
        if 1 / _MOST_FACTOR < -line.slope < _MOST_FACTOR:
            raise DataError(f"{path}: {what}; change their sign.")
        yield f"{path.name}: {what} (correlation {line.correlation:.2f}); they rise where the teacher's fall."
    n_atoms = float(np.mean([len(frame) for frame in frames]))
    per_atom = line.slope * n_atoms / (force.slope if force.correlation >= _AGREE else 1.0)
    if n_atoms > 1 and line.correlation >= _ENERGIES_AGREE and abs(per_atom - 1) < _WITHIN:
        raise DataError(
            f"{path}: {what} for {n_atoms:g} atoms: these are energies per atom. Give those of the whole cell."
        )
    if line.is_other_unit(_ENERGIES_AGREE):
        raise DataError(
            f"{path}: {what}; that looks like another unit{_guess(line.slope, _ENERGY_UNITS)} (kcal/mol: 23, hartree:"
            " 0.037) or like energies per atom. Convert them to eV per cell."
        )
    if line.may_be(_ENERGIES_AGREE):
        yield (
            f"{path.name}: {what} (correlation {line.correlation:.2f}, both above the zeros of the elements); is that"
            " the teacher's error, or another unit?"
        )


def _check_stress(
    path: Path, frames: Sequence[Atoms], said: Sequence[Prediction], labels: Sequence[Prediction], teacher: str
) -> Iterator[str]:
    both = [
        (p.stress_eV_per_A3, label.stress_eV_per_A3, frame.cell.volume)
        for frame, p, label in zip(frames, said, labels, strict=True)
        if p.stress_eV_per_A3 is not None and label.stress_eV_per_A3 is not None
    ]
    if not both:
        return
    given, wanted = np.array([stress for stress, _, _ in both]), np.array([stress for _, stress, _ in both])
    line = _Line.through(given.ravel(), wanted.ravel())
    what = f"stress is {line.slope:.3g} times what {teacher} gives"
    volumes = np.array([volume for _, _, volume in both])[:, None, None]
    virial = _Line.through((-volumes * given).ravel(), wanted.ravel())
    if virial.correlation >= _AGREE and 1 / _LIKELY_FACTOR < virial.slope < _LIKELY_FACTOR:
        raise DataError(f"{path}: {what}, or -volume times: these are virials. Name them by data.virials_key.")
    if line.correlation <= -_AGREE:
        raise DataError(
            f"{path}: {what}: it has the opposite sign, as VASP writes it"
            f"{_guess(-line.slope, _STRESS_UNITS, ', and is in ')}. Give eV/A^3, positive under tension."
        )
    if line.is_other_unit(_AGREE):
        raise DataError(
            f"{path}: {what}; that looks like another unit{_guess(line.slope, _STRESS_UNITS)}. Give eV/A^3."
        )
    if abs(line.correlation) < _AGREE:
        yield f"{path.name}: stress hardly agrees with what {teacher} gives (correlation {line.correlation:.2f})."
    elif line.may_be(_AGREE):
        yield f"{path.name}: {what} (correlation {line.correlation:.2f}); is that the teacher's error, or another unit?"


def _guess(slope: float, units: Mapping[str, float], before: str = ", ") -> str:
    """Return the unit whose factor is about `slope`, after `before`; nothing if there is none."""
    for unit, factor in units.items():
        if abs(slope / factor - 1) < _WITHIN:
            return f"{before}{unit}"
    return ""
