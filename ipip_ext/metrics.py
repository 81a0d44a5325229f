"""Errors of energies and forces in plain numpy; keys carry their units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext import frames as fr
from ipip_ext.potential import Prediction
from ipip_ext.units import MEV_PER_EV


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
    """Return one energy an element, (n_species,), eV, by least squares; minimum norm where ambiguous.

    composition: (n_frames, n_species) counts. energy_eV: (n_frames,).
    """
    return np.asarray(np.linalg.lstsq(composition, energy_eV, rcond=None)[0], dtype=np.float64)


def _mae(error: NDArray[np.float64]) -> float:
    return float(np.mean(np.abs(error)) * MEV_PER_EV)


def _rmse(error: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(error**2)) * MEV_PER_EV)
