"""Errors of energies and forces in plain numpy; keys carry their units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext import frames as fr
from ipip_ext.potential import Prediction
from ipip_ext.units import MEV_PER_EV

_HUBER, _SIGMA_PER_MAD, _MOST_REWEIGHTINGS = 1.345, 1.4826, 50
"""Huber's constant for 95 % efficiency on normal errors; standard deviation of those per median absolute one."""


def errors(frames: Sequence[Atoms], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Return MAE and RMSE of forces (over all components) and of energies per atom, in meV.

    With stress labels on every frame also the MAE of its components in meV/Angstrom^3.
    """
    labels = [fr.labels_of(frame) for frame in frames]
    n_atoms = np.array([len(frame) for frame in frames])
    force = np.concatenate(
        [(p.forces_eV_per_A - y.forces_eV_per_A).ravel() for p, y in zip(predictions, labels, strict=True)]
    )
    energy = np.array([p.energy_eV - y.energy_eV for p, y in zip(predictions, labels, strict=True)]) / n_atoms
    result = {
        "force_mae_meV_per_A": _mae(force),
        "force_rmse_meV_per_A": _rmse(force),
        "energy_mae_meV_per_atom": _mae(energy),
        "energy_rmse_meV_per_atom": _rmse(energy),
    }
    stress = [
        (p.stress_eV_per_A3 - y.stress_eV_per_A3).ravel()
        for p, y in zip(predictions, labels, strict=True)
        if p.stress_eV_per_A3 is not None and y.stress_eV_per_A3 is not None
    ]
    if len(stress) == len(labels):
        result["stress_mae_meV_per_A3"] = _mae(np.concatenate(stress))
    return result


def fit_zeros(composition: NDArray[np.float64], energy_eV: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one energy an element, (n_species,), eV; minimum norm where ambiguous.

    Least squares with Huber's weights (Ann. Math. Stat. 35, 73 (1964)) by iterated
    reweighting: a few frames torn to pieces, tens of eV up, would else shift the zeros of all.
    composition: (n_frames, n_species) counts. energy_eV: (n_frames,).
    """
    n_atoms = np.maximum(composition.sum(axis=1), 1)
    weight = np.ones(len(energy_eV))
    for _ in range(_MOST_REWEIGHTINGS):
        root = np.sqrt(weight)
        zeros = np.linalg.lstsq(composition * root[:, None], energy_eV * root, rcond=None)[0]
        error = np.abs(energy_eV - composition @ zeros) / n_atoms
        limit = _HUBER * _SIGMA_PER_MAD * float(np.median(error))
        new = np.minimum(1.0, limit / np.maximum(error, 1e-12)) if limit > 1e-6 else weight
        if np.allclose(new, weight, rtol=1e-3):
            break
        weight = new
    return np.asarray(zeros, dtype=np.float64)


def _mae(error: NDArray[np.float64]) -> float:
    return float(np.mean(np.abs(error)) * MEV_PER_EV)


def _rmse(error: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(error**2)) * MEV_PER_EV)
