"""Curves of properties as files, and how far a model's are from a reference's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext.data.tables import read_csv
from ipip_ext.errors import DataError
from ipip_ext.measure import structure_functions
from ipip_ext.potentials.base import Array

KEYS = (
    "nve_drift_meV_per_atom_per_ns", "nve_fluctuation_meV_per_atom", "nve_sane_share", "rdf_distance",
    "vdos_distance", "strain_rmse_meV_per_atom",
)  # fmt: skip
"""Names of what is measured, as far as it could be."""

_X = {"rdf": ("r_A", "g", "pair"), "vdos": ("frequency_THz", "density_per_THz", None)}
"""Of each kind of curve the columns of x and y, and of what it is a part."""


def check_trajectory(path: Path, frames: Sequence[Atoms]) -> None:
    """Raise DataError unless all frames hold the same atoms in the same cell."""
    first = frames[0]
    for index, frame in enumerate(frames):
        if len(frame) != len(first) or (frame.numbers != first.numbers).any():
            raise DataError(f"{path}: frame {index} holds other atoms than frame 0; a trajectory is of one system.")
        if not np.allclose(frame.cell.array, first.cell.array, atol=1e-6):
            raise DataError(f"{path}: the cell of frame {index} is not that of frame 0; take one of constant volume.")


def check_strained(path: Path, frames: Sequence[Atoms]) -> None:
    """Raise DataError unless each frame has `start` and `strain`, and each start a frame at strain 0."""
    for index, frame in enumerate(frames):
        value = frame.info.get("strain")
        if "start" not in frame.info or isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise DataError(f"{path}: frame {index} lacks start= or a number strain= in its comment line; add them.")
    starts = {str(frame.info["start"]) for frame in frames}
    if bare := starts - {str(frame.info["start"]) for frame in frames if frame.info["strain"] == 0}:
        raise DataError(f"{path}: {min(bare)} has no frame at strain=0, to which its energies are relative; add one.")


def agreement(mine: Mapping[str, Path], reference: Mapping[str, Path]) -> dict[str, float]:
    """Return how far a model's curves are from a reference's, by the names of `KEYS`, where there is something.

    rdf, vdos: means of `structure_functions.distance` over the reference's walks; a walk that the model did not
    finish counts as 1. strain: RMS difference of energies, from labels where the frames have them; from the reference
    otherwise; missing where the model could not label a frame.
    """
    found = {}
    for kind in _X:
        ours, theirs = _curves(mine[kind], kind), _curves(reference[kind], kind)
        if theirs:
            distances = [_distance(ours.get(walk, {}), parts) for walk, parts in theirs.items()]
            found[f"{kind}_distance"] = float(np.mean(distances))
    strained = read_csv(reference["strain"]) if "strain" in reference else []
    differences = _strain_differences(read_csv(mine["strain"]), strained)
    if differences is not None:
        found["strain_rmse_meV_per_atom"] = float(np.sqrt(np.mean(np.square(differences))))
    return found


Parts = dict[str, tuple[Array, Array]]
"""x and y of a curve by part, such as a pair of elements."""


def _curves(path: Path, kind: str) -> dict[str, Parts]:
    x, y, part = _X[kind]
    points: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in read_csv(path):
        points[row["walk"], row[part] if part else ""].append((float(row[x]), float(row[y])))
    found: dict[str, Parts] = defaultdict(dict)
    for (walk, name), some in points.items():
        found[walk][name] = tuple(np.array(some).T)
    return dict(found)


def _distance(ours: Parts, theirs: Parts) -> float:
    if ours.keys() != theirs.keys():
        return 1.0
    here, there = [], []
    for part, (x, y) in theirs.items():
        own_x, own_y = ours[part]
        shared = x <= own_x[-1]  # a longer time step sees fewer frequencies
        here.append(np.interp(x[shared], own_x, own_y))
        there.append(y[shared])
    return structure_functions.distance(np.concatenate(here), np.concatenate(there))


def _strain_differences(ours: Sequence[Mapping[str, str]], theirs: Sequence[Mapping[str, str]]) -> list[float] | None:
    """Return differences in meV/atom at all strains but 0; None where there is none, or not all can be had."""
    key = "energy_meV_per_atom"
    wanted = {(row["start"], row["strain"]): row[key] for row in theirs}
    pairs = [
        (row[key], row["label_meV_per_atom"] or wanted.get((row["start"], row["strain"]), ""))
        for row in ours
        if float(row["strain"]) != 0
    ]
    return [float(a) - float(b) for a, b in pairs] if pairs and all(a and b for a, b in pairs) else None
