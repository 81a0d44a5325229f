"""Fit corrections to reference labels, and choose among them by cross-validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.data.weights import counted, label_weights
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Array, Prediction
from ipip_ext.recipe.labels import Correction
from ipip_ext.teachers.correction.fitted import FORMS, Basis, Reach, TeacherCorrection, fade
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

    Least squares on force components, each as its frame's weights say, with a ridge that pulls towards no correction.
    frames: with reference labels; those whose forces count for nothing decide nothing. predictions: the teacher's of
    the same frames. elements: those that the correction may meet; one that `frames` lack has no pair potential.
    Raises DataError as `check` does.
    """
    check(frames, settings)
    frames, predictions = _counted(frames, predictions)
    basis = _basis(frames, predictions, settings, tuple(sorted(elements)))
    tried = ("none", settings.form) if settings.form != "auto" else tuple(FORMS) if len(frames) > 1 else ("none",)
    x = _design(frames, predictions, basis, tried)
    labels = (frame.arrays[fr.FORCES] for frame in frames)
    y = np.concatenate([(f - p.forces_eV_per_A).ravel() for f, p in zip(labels, predictions, strict=True)])
    ridges = RIDGES if settings.ridge is None else (settings.ridge,)
    rows = _Rows.of(frames, settings)
    trials = [_try(form, _stacked(x, form, len(y)), y, rows, ridges) for form in tried]
    best = choose(trials) if settings.form == "auto" else trials[-1]
    found = _Ridge(*rows.weighted(_stacked(x, best.form, len(y)), y))
    scales = np.concatenate([np.empty(0), *(np.full(x[b][1].shape[1], x[b][0]) for b in FORMS[best.form])])
    values = found.values(best.ridge) / scales
    coefficients = {}
    for block in FORMS[best.form]:
        n_columns = x[block][1].shape[1]
        coefficients[block], values = values[:n_columns], values[n_columns:]
    reach = None
    if settings.damping is not None and coefficients:
        reach = Reach(found.root(best.ridge) / scales, settings.damping * found.mean_leverage(best.ridge))
    return TeacherCorrection(best.form, basis, coefficients, reach), trials


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
    if len(frames) < 2 and settings.form != "auto":
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


def _counted(frames: Sequence[Atoms], predictions: Sequence[Prediction]) -> tuple[list[Atoms], list[Prediction]]:
    kept = {id(frame) for frame in counted(frames, "forces")}
    pairs = [pair for pair in zip(frames, predictions, strict=True) if id(pair[0]) in kept]
    return [frame for frame, _ in pairs], [said for _, said in pairs]


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


@dataclass(frozen=True)
class _Rows:
    """Which frame and which group each row belongs to, (n_rows,), how a correction fades, and what each row counts for.

    counts: (n_rows,), None where all count as 1.
    """

    frame: NDArray[np.int64]
    group: NDArray[np.str_]
    damping: float | None
    counts: Array | None

    @classmethod
    def of(cls, frames: Sequence[Atoms], settings: Correction) -> _Rows:
        sizes = [3 * len(frame) for frame in frames]
        names = np.array(groups(frames, settings.group_keys))
        counts = label_weights(frames, "forces")
        of_rows = None if counts is None else np.repeat(counts, sizes)
        return cls(np.repeat(np.arange(len(frames)), sizes), np.repeat(names, sizes), settings.damping, of_rows)

    def weighted(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return rows and what they should give, as a fit by least squares takes them."""
        if self.counts is None:
            return x, y
        root = np.sqrt(self.counts)
        return x * root[:, None], y * root


def _try(form: str, x: Array, y: Array, rows: _Rows, ridges: Sequence[float]) -> Trial:
    seen = rows.weighted(x, y)
    whole = _Ridge(*seen)
    errors = np.empty((len(ridges), len(y)))
    for name in np.unique(rows.group):
        out = rows.group == name
        fitted = whole.without(*(values[out] for values in seen))
        for k, ridge in enumerate(ridges):
            correction = x[out] @ fitted.values(ridge)
            if rows.damping is not None and x.shape[1]:
                mean = _mean_by(rows.frame[out], np.sum((x[out] @ fitted.root(ridge).T) ** 2, axis=1))
                correction = correction * fade(mean, rows.damping * fitted.mean_leverage(ridge))
            errors[k, out] = np.abs(correction - y[out]) * MEV_PER_EV
    mean = errors.mean(axis=1) if rows.counts is None else np.average(errors, axis=1, weights=rows.counts)
    chosen = int(np.flatnonzero(mean <= mean.min() * (1 + _NEAR))[-1])
    by_group = {str(name): float(errors[chosen, rows.group == name].mean()) for name in np.unique(rows.group)}
    return Trial(form, ridges[chosen], float(mean[chosen]), by_group)


def _mean_by(frame: NDArray[np.int64], values: Array) -> Array:
    """Return the mean of `values` over the rows of each row's frame."""
    _, index = np.unique(frame, return_inverse=True)
    return np.asarray((np.bincount(index, values) / np.bincount(index))[index])


class _Ridge:
    """A ridge regression with all ridges at once."""

    def __init__(self, x: Array, y: Array) -> None:
        self._decompose(x.T @ x, x.T @ y, len(y))

    def without(self, x: Array, y: Array) -> _Ridge:
        """Return the regression without these rows."""
        other = object.__new__(_Ridge)
        other._decompose(self._gram - x.T @ x, self._moment - x.T @ y, self._n_rows - len(y))
        return other

    def _decompose(self, gram: Array, moment: Array, n_rows: int) -> None:
        self._gram, self._moment, self._n_rows = gram, moment, n_rows
        weight, self._vectors = np.linalg.eigh(gram)
        self._weight = np.maximum(weight, 0.0)

    def values(self, ridge: float) -> Array:
        """Return the coefficients, (k,)."""
        return np.asarray(self._vectors @ ((self._vectors.T @ self._moment) / (self._weight + ridge)))

    def root(self, ridge: float) -> Array:
        """Return R, (k, k), with |R x|^2 the leverage of a row x."""
        return np.asarray(self._vectors.T / np.sqrt(self._weight + ridge)[:, None])

    def mean_leverage(self, ridge: float) -> float:
        """Return the mean leverage of the rows."""
        return float(np.sum(self._weight / (self._weight + ridge)) / self._n_rows)
