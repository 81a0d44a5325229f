"""Fit corrections to reference labels, and choose among them by cross-validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext import frames as fr
from ipip_ext import metrics
from ipip_ext.correction import FORMS, Basis, TeacherCorrection
from ipip_ext.errors import DataError
from ipip_ext.potential import Array, Prediction
from ipip_ext.recipe import Correction
from ipip_ext.units import MEV_PER_EV

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Ridges to choose from where the recipe names none, in rising order."""

_NEAR = 0.02
"""The strongest ridge whose error is within this share of the smallest is taken: it extrapolates best."""

_GAIN = 0.01
"""A richer form must lower the error by more than this share."""

_BLOCKS = 10


@dataclass(frozen=True)
class Trial:
    """What cross-validation says of a form, with its ridge.

    by_group_meV_per_A: force MAE on each group by a correction that was fitted without it.
    """

    form: str
    ridge: float
    force_mae_meV_per_A: float
    by_group_meV_per_A: Mapping[str, float]


def fit(
    frames: Sequence[Atoms], predictions: Sequence[Prediction], settings: Correction, elements: Iterable[str]
) -> tuple[TeacherCorrection, list[Trial]]:
    """Return the correction that the recipe asks for, and all trials; the first is the teacher as it comes.

    Least squares on force components, with a ridge that pulls towards no correction.
    frames: with reference labels. predictions: the teacher's of the same frames. elements: those that the
    correction may meet; one that `frames` lack has no pair potential.
    Raises DataError as `check` does.
    """
    check(frames, settings)
    basis = _basis(frames, predictions, settings, tuple(sorted(elements)))
    tried = tuple(FORMS) if settings.form == "auto" else ("none", settings.form)
    x = _design(frames, predictions, basis, tried)
    labels = (frame.arrays[fr.FORCES] for frame in frames)
    y = np.concatenate([(f - p.forces_eV_per_A).ravel() for f, p in zip(labels, predictions, strict=True)])
    group = np.repeat(groups(frames, settings.group_keys), [3 * len(frame) for frame in frames])
    ridges = RIDGES if settings.ridge is None else (settings.ridge,)
    trials = [_try(form, _stacked(x, form, len(y)), y, group, ridges) for form in tried]
    best = choose(trials) if settings.form == "auto" else trials[-1]
    a = _stacked(x, best.form, len(y))
    (values,) = _ridge(a.T @ a, a.T @ y, (best.ridge,))
    coefficients = {}
    for block in FORMS[best.form]:
        scale, columns = x[block]
        coefficients[block], values = values[: columns.shape[1]] / scale, values[columns.shape[1] :]
    return TeacherCorrection(best.form, basis, coefficients), trials


def choose(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the smallest error; a richer form must be better by more than one per cent."""
    best = trials[0]
    for trial in trials[1:]:
        if trial.force_mae_meV_per_A < best.force_mae_meV_per_A * (1 - _GAIN):
            best = trial
    return best


def check(frames: Sequence[Atoms], settings: Correction) -> None:
    """Raise DataError if `frames` can't be cross-validated as the recipe says."""
    if settings.form == "none":
        return
    if len(frames) < 2:
        raise DataError(f"correct.form: {settings.form} needs two training frames or more, to leave one out; add some.")
    for key in settings.group_keys:
        lacking = next((frame for frame in frames if key not in frame.info), None)
        if lacking is not None:
            raise DataError(
                f"correct.group_keys: training frame {lacking.info.get(fr.ID)} has no {key};"
                f" it has {', '.join(sorted(lacking.info))}."
            )


def groups(frames: Sequence[Atoms], keys: Sequence[str]) -> list[str]:
    """Return the name of each frame's group: its values of `keys`, or its composition where there are no keys.

    If all frames are one group, they are cut into blocks in their order, since neighbours in a file are alike.
    """
    names = [
        "/".join(str(frame.info[key]) for key in keys) if keys else frame.get_chemical_formula(empirical=True)
        for frame in frames
    ]
    if len(set(names)) > 1:
        return names
    n_blocks = min(_BLOCKS, len(frames))
    return [f"block {n_blocks * index // len(frames)}" for index in range(len(frames))]


def _basis(
    frames: Sequence[Atoms], predictions: Sequence[Prediction], settings: Correction, elements: tuple[str, ...]
) -> Basis:
    energy_eV = np.array([said.energy_eV for said in predictions])
    zeros_eV = metrics.fit_zeros(fr.composition(frames, elements), energy_eV)
    return Basis(elements, tuple(map(float, zeros_eV)), settings.r_max_A, settings.n_basis, settings.max_ell)


def _design(
    frames: Sequence[Atoms], predictions: Sequence[Prediction], basis: Basis, forms: Sequence[str]
) -> dict[str, tuple[float, Array]]:
    """Return each block's design matrix, a row a force component, over its scale, and that scale.

    The scale makes the mean square length of a row one, so that one ridge means the same for all blocks. It is one
    for the whole block: a column of its own scale would let what was hardly ever seen count as much as the rest.
    """
    x = {}
    for block in dict.fromkeys(block for form in forms for block in FORMS[form]):
        found = [basis.columns(block, f, p).forces_eV_per_A for f, p in zip(frames, predictions, strict=True)]
        rows = np.concatenate([forces.reshape(len(forces), -1).T for forces in found])
        scale = float(np.sqrt((rows**2).sum(axis=1).mean())) or 1.0
        x[block] = (scale, rows / scale)
    return x


def _stacked(x: Mapping[str, tuple[float, Array]], form: str, n_rows: int) -> Array:
    return np.concatenate([np.empty((n_rows, 0)), *(x[block][1] for block in FORMS[form])], axis=1)


def _try(form: str, x: Array, y: Array, group: NDArray[np.str_], ridges: Sequence[float]) -> Trial:
    gram, moment = x.T @ x, x.T @ y
    errors = np.empty((len(ridges), len(y)))
    for name in np.unique(group):
        out = group == name
        values = _ridge(gram - x[out].T @ x[out], moment - x[out].T @ y[out], ridges)
        errors[:, out] = np.abs(values @ x[out].T - y[out]) * MEV_PER_EV
    mean = errors.mean(axis=1)
    chosen = int(np.flatnonzero(mean <= mean.min() * (1 + _NEAR))[-1])
    by_group = {str(name): float(errors[chosen, group == name].mean()) for name in np.unique(group)}
    return Trial(form, ridges[chosen], float(mean[chosen]), by_group)


def _ridge(gram: Array, moment: Array, ridges: Sequence[float]) -> Array:
    """Return the coefficients with each ridge, (n_ridges, k)."""
    weight, vectors = np.linalg.eigh(gram)
    along = vectors.T @ moment
    return np.array([vectors @ (along / (np.maximum(weight, 0.0) + ridge)) for ridge in ridges])
