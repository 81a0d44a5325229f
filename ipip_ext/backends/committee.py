"""Students that differ by seed and by the labels they saw: their mean, their spread, what the spread is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.backends import registry
from ipip_ext.data import frames as fr
from ipip_ext.potentials.ase_calculator import PotentialCalculator
from ipip_ext.potentials.base import Array, Potential, Prediction


@dataclass(frozen=True)
class Opinion:
    """What a committee says of one frame.

    mean: of the members' labels. energy_spread_eV: standard deviation of their energies.
    force_spread_eV_per_A: (n_atoms,), root of the members' variance, averaged over components.
    """

    mean: Prediction
    energy_spread_eV: float
    force_spread_eV_per_A: Array


@dataclass(frozen=True)
class Calibration:
    """What a spread is worth on labelled frames.

    error_per_spread: RMS error of a force component over the RMS spread. rank_correlation: Spearman's, of atoms.
    curve: for equally filled bins of atoms by spread, the RMS spread and the RMS error.
    """

    error_per_spread: float
    rms_error_meV_per_A: float
    rms_spread_meV_per_A: float
    rank_correlation: float
    curve: Sequence[Mapping[str, float]]


class CommitteePotential:
    """Members of one architecture as one Potential: the mean of their labels.

    The mean of conservative forces is the force of the mean energy, so MD with it conserves energy too.
    """

    batched = True

    def __init__(self, members: Sequence[Potential], name: str, error_per_spread: float = 1.0) -> None:
        self.members = list(members)
        self.name = name
        self.error_per_spread = error_per_spread
        counts = [member.n_parameters for member in self.members]
        self.n_parameters: int | None = None if None in counts else sum(count or 0 for count in counts)

    @classmethod
    def load(cls, folder: Path, backend: str, device: str, error_per_spread: float = 1.0) -> CommitteePotential:
        """Load the students in the numbered folders of `folder`. Raises ModelFileError."""
        engine = registry.backend(backend)
        paths = sorted((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
        return cls([engine.potential(engine.load(path), device) for path in paths], "committee", error_per_spread)

    def compute(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Prediction]:
        """Return the members' mean for each frame."""
        return [opinion.mean for opinion in self.opinions(frames, stress=stress)]

    def opinions(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Opinion]:
        """Return mean and spread for each frame."""
        said = [member.compute(frames, stress=stress) for member in self.members]
        return [_opinion([labels[i] for labels in said]) for i in range(len(frames))]

    def calculator(self) -> CommitteeCalculator:
        """Return an ASE calculator around this committee."""
        return CommitteeCalculator(self)


class CommitteeCalculator(PotentialCalculator):
    """ASE calculator of a committee.

    results hold, besides energy, forces and stress of the mean: `energy_spread` (eV, standard deviation of the
    members), `forces_spread` ((n,), eV/Angstrom) and `forces_error` (the same times what a validation set
    showed an error to be per spread).
    """

    def label(self, atoms: Atoms, stress: bool) -> tuple[Prediction, dict[str, Any]]:
        """Return the mean of the members, and their spread."""
        opinion = self.potential.opinions([atoms], stress=stress)[0]
        spread = opinion.force_spread_eV_per_A
        return opinion.mean, {
            "energy_spread": opinion.energy_spread_eV,
            "forces_spread": spread,
            "forces_error": spread * self.potential.error_per_spread,
        }


def frame_spread(opinion: Opinion) -> float:
    """Return the root mean square over atoms of the force spread, eV/Angstrom."""
    return float(np.sqrt(np.mean(opinion.force_spread_eV_per_A**2)))


def calibrate(opinions: Sequence[Opinion], frames: Sequence[Atoms], n_bins: int = 8) -> Calibration:
    """Return what the spread of `opinions` of labelled `frames` is worth; n_bins: of the curve, at most."""
    spread = np.concatenate([opinion.force_spread_eV_per_A for opinion in opinions])
    error = np.concatenate(
        [
            np.sqrt(np.mean((o.mean.forces_eV_per_A - f.arrays[fr.FORCES]) ** 2, axis=1))
            for o, f in zip(opinions, frames, strict=True)
        ]
    )
    order = np.argsort(spread, kind="stable")
    bins = [rows for rows in np.array_split(order, min(n_bins, len(order))) if len(rows)]
    return Calibration(
        error_per_spread=float(_rms(error) / max(_rms(spread), 1e-12)),
        rms_error_meV_per_A=_rms(error) * 1e3,
        rms_spread_meV_per_A=_rms(spread) * 1e3,
        rank_correlation=_rank_correlation(spread, error),
        curve=[
            {"spread_meV_per_A": _rms(spread[rows]) * 1e3, "error_meV_per_A": _rms(error[rows]) * 1e3} for rows in bins
        ],
    )


def _opinion(labels: Sequence[Prediction]) -> Opinion:
    energies = np.array([label.energy_eV for label in labels])
    forces = np.array([label.forces_eV_per_A for label in labels])
    tensors = [label.stress_eV_per_A3 for label in labels if label.stress_eV_per_A3 is not None]
    stress = np.mean(tensors, axis=0) if len(tensors) == len(labels) else None
    atoms = [label.energies_eV for label in labels if label.energies_eV is not None]
    shares = np.mean(atoms, axis=0) if len(atoms) == len(labels) else None
    mean = Prediction(float(energies.mean()), forces.mean(axis=0), stress, shares)
    spread = np.sqrt(forces.var(axis=0, ddof=1).mean(axis=1))
    return Opinion(mean, float(energies.std(ddof=1)), spread)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _rank_correlation(a: Array, b: Array) -> float:
    """Spearman's rho: does a larger spread go with a larger error?"""
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (a, b)]
    if len(a) < 2:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
