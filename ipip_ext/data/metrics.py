"""Errors of energies and forces in plain numpy; keys carry their units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.data import frames as fr
from ipip_ext.potentials.base import Array, Prediction
from ipip_ext.units import MEV_PER_EV

_HUBER, _SIGMA_PER_MAD, _MOST_REWEIGHTINGS = 1.345, 1.4826, 50
"""Huber's constant for 95 % efficiency on normal errors; standard deviation of those per median absolute one."""

_RESAMPLES = 2000
"""Resamples of a bootstrap: the ends of a 95 % interval then stand to a few hundredths of its width."""


def errors(frames: Sequence[Atoms], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Return errors of forces (over all components) and of energies per atom, in meV; see `Residuals.errors`."""
    return Residuals.of(frames, predictions).errors()


def errors_of_what_is_labelled(frames: Sequence[Atoms], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Return errors of frames some of which lack some labels: each counts for what it has, meV.

    Since zeros of energies are arbitrary, energies are compared relative to the mean of their formula too.
    """
    with_energy = [i for i, frame in enumerate(frames) if fr.ENERGY in frame.info]
    with_forces = [i for i, frame in enumerate(frames) if fr.FORCES in frame.arrays]
    found: dict[str, float] = {}
    if with_forces:
        predicted, reference = (
            np.concatenate(some)
            for some in ([predictions[i].forces_eV_per_A for i in with_forces],
                         [frames[i].arrays[fr.FORCES] for i in with_forces])
        )  # fmt: skip
        found |= Residuals(predicted, reference, np.zeros(0, dtype=int), np.zeros(0)).force_errors()
    if with_energy:
        n_atoms = np.array([len(frames[i]) for i in with_energy])
        error = np.array([predictions[i].energy_eV - frames[i].info[fr.ENERGY] for i in with_energy]) / n_atoms
        formulas = np.array([frames[i].get_chemical_formula() for i in with_energy])
        relative = error - np.array([error[formulas == formula].mean() for formula in formulas])
        found |= _spread("energy", "meV_per_atom", error) | _spread("relative_energy", "meV_per_atom", relative)
    return found


@dataclass(frozen=True)
class Residuals:
    """What a model says of frames beside what their labels say.

    predicted_eV_per_A, reference_eV_per_A: (n_atoms of all frames, 3), frame after frame.
    n_atoms: (n_frames,). energy_eV_per_atom: (n_frames,) errors; only their size is looked at.
    stress_eV_per_A3: (n_frames, 3, 3) errors; None unless all frames have a label and a prediction.
    Reference forces and errors of energies are NaN in frames without such a label, which then count for the other.
    """

    predicted_eV_per_A: Array
    reference_eV_per_A: Array
    n_atoms: NDArray[np.int64]
    energy_eV_per_atom: Array
    stress_eV_per_A3: Array | None = None

    @classmethod
    def of(cls, frames: Sequence[Atoms], predictions: Sequence[Prediction]) -> Residuals:
        """Set predictions against the labels that the frames carry."""
        pairs = list(zip(predictions, map(fr.labels_where_known, frames), strict=True))
        n_atoms = np.array([len(frame) for frame in frames])
        stress = [
            p.stress_eV_per_A3 - y.stress_eV_per_A3
            for p, y in pairs
            if p.stress_eV_per_A3 is not None and y.stress_eV_per_A3 is not None
        ]
        return cls(
            np.concatenate([p.forces_eV_per_A for p, _ in pairs]),
            np.concatenate([y.forces_eV_per_A for _, y in pairs]),
            n_atoms,
            np.array([p.energy_eV - y.energy_eV for p, y in pairs]) / n_atoms,
            np.array(stress) if len(stress) == len(frames) else None,
        )

    def errors(self) -> dict[str, float]:
        """Return MAE, RMSE and 95th percentile of absolute errors, and the mean angle between forces.

        Forces are over components, energies over frames, stress over components, meV/Angstrom^3. Of what no frame has
        a label of nothing is told.
        """
        energy = self.energy_eV_per_atom
        found = self.force_errors() | _spread("energy", "meV_per_atom", _known(energy, np.isfinite(energy)))
        if self.stress_eV_per_A3 is not None:
            found |= _spread("stress", "meV_per_A3", self.stress_eV_per_A3)
        return found

    def force_errors(self) -> dict[str, float]:
        """Return the errors of forces alone."""
        has = self._has_forces
        predicted, reference = _known(self.predicted_eV_per_A, has), _known(self.reference_eV_per_A, has)
        if not len(reference):
            return {}
        found = _spread("force", "meV_per_A", predicted - reference)
        return found | {"force_angle_deg": mean_angle_deg(predicted, reference)}

    def frames(self, rows: Sequence[int]) -> Residuals:
        """Return those of some frames."""
        ends = self._ends
        atoms = np.concatenate([np.arange(ends[i] - self.n_atoms[i], ends[i]) for i in rows])
        stress = None if self.stress_eV_per_A3 is None else self.stress_eV_per_A3[rows]
        return Residuals(
            self.predicted_eV_per_A[atoms],
            self.reference_eV_per_A[atoms],
            self.n_atoms[rows],
            self.energy_eV_per_atom[rows],
            stress,
        )

    def atoms(self, mask: NDArray[np.bool_]) -> dict[str, float]:
        """Return the force errors of some atoms; mask: (n_atoms of all frames,)."""
        none = np.zeros(0)
        rows = Residuals(self.predicted_eV_per_A[mask], self.reference_eV_per_A[mask], none.astype(int), none)
        return rows.force_errors()

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.n_atoms)

    def sums(self) -> Array:
        """Return for each frame the sums that MAE and RMSE are made of, (n_frames, 6): of |force error|, its square
        and the number of components; of |energy error|, its square and 1; zeros where a frame has no such label.
        """
        has, has_energy = self._has_forces, np.isfinite(self.energy_eV_per_atom)
        error = np.where(has[:, None], self.predicted_eV_per_A - self.reference_eV_per_A, 0.0)
        first = np.concatenate([[0], np.cumsum(self.n_atoms)[:-1]])
        force = np.add.reduceat(np.stack([np.abs(error).sum(axis=1), (error**2).sum(axis=1)], axis=1), first)
        components = 3 * np.add.reduceat(has.astype(int), first)
        energy = np.where(has_energy, self.energy_eV_per_atom, 0.0)
        return np.column_stack([force, components, np.abs(energy), energy**2, has_energy])

    @cached_property
    def _has_forces(self) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(self.reference_eV_per_A).all(axis=1))


def mean_angle_deg(predicted: Array, reference: Array) -> float:
    """Return the mean angle between vectors, degrees, each weighted by the length of the reference's.

    The direction of a force that is nearly zero is noise and moves nothing; weighted so, it counts for nothing.
    Where a prediction is zero its angle is 90; without any reference force the mean is 0. Both: (n, 3).
    """
    sizes = np.linalg.norm(predicted, axis=1) * (weight := np.linalg.norm(reference, axis=1))
    cosine = np.divide((predicted * reference).sum(axis=1), sizes, out=np.zeros(len(sizes)), where=sizes > 0)
    angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    return float(np.average(angle, weights=weight)) if weight.sum() > 0 else 0.0


def intervals(sums: Array, seed: int) -> dict[str, float]:
    """Return 95 % intervals of MAE and RMSE over what the rows of `sums` are drawn from; empty for a single row.

    Percentile bootstrap (Efron, Ann. Stat. 7, 1 (1979)): rows are drawn with replacement. sums: (n_units, 6), of
    `Residuals.sums`, added up where frames of one trajectory make a unit.
    The same seed and rows draw alike for all models, so their intervals move together.
    """
    if len(sums) < 2:
        return {}
    n = len(sums)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    total = counts @ sums
    found: dict[str, float] = {}
    for what, unit, column in (("force", "meV_per_A", 0), ("energy", "meV_per_atom", 3)):
        if not total[:, column + 2].all():  # of so few labels that some draws hold none
            continue
        mae = total[:, column] / total[:, column + 2]
        rmse = np.sqrt(total[:, column + 1] / total[:, column + 2])
        for name, values in (("mae", mae), ("rmse", rmse)):
            low, high = np.percentile(values, (2.5, 97.5)) * MEV_PER_EV
            found |= {f"{what}_{name}_ci95_low_{unit}": float(low), f"{what}_{name}_ci95_high_{unit}": float(high)}
    return found


def fit_zeros(composition: Array, energy_eV: Array, counts: Array | None = None) -> Array:
    """Return one energy an element, (n_species,), eV; minimum norm where ambiguous.

    Least squares with Huber's weights (Ann. Math. Stat. 35, 73 (1964)) by iterated
    reweighting: a few frames torn to pieces, tens of eV up, would else shift the zeros of all.
    composition: (n_frames, n_species) counts. energy_eV: (n_frames,). counts: what each frame counts for, (n_frames,);
    None: all alike. One of 0 decides nothing, unless all are.
    """
    if counts is not None and (counts > 0).any():
        composition, energy_eV, counts = composition[counts > 0], energy_eV[counts > 0], counts[counts > 0]
    n_atoms = np.maximum(composition.sum(axis=1), 1)
    weight = np.ones(len(energy_eV))
    for _ in range(_MOST_REWEIGHTINGS):
        root = np.sqrt(weight if counts is None else weight * counts)
        zeros = np.linalg.lstsq(composition * root[:, None], energy_eV * root, rcond=None)[0]
        error = np.abs(energy_eV - composition @ zeros) / n_atoms
        limit = _HUBER * _SIGMA_PER_MAD * float(np.median(error))
        new = np.minimum(1.0, limit / np.maximum(error, 1e-12)) if limit > 1e-6 else weight
        if np.allclose(new, weight, rtol=1e-3):
            break
        weight = new
    return np.asarray(zeros, dtype=np.float64)


def _known(values: Array, has: NDArray[np.bool_]) -> Array:
    """Return the rows that have labels; all as they stand where none lacks them, so that sums keep every bit."""
    return values if has.all() else values[has]


def _spread(what: str, unit: str, error: Array) -> dict[str, float]:
    if not error.size:
        return {}
    size = np.abs(error) * MEV_PER_EV
    return {
        f"{what}_mae_{unit}": float(np.mean(size)),
        f"{what}_rmse_{unit}": float(np.sqrt(np.mean(size**2))),
        f"{what}_p95_{unit}": float(np.percentile(size, 95)),
    }
