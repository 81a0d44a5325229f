"""What labels of equal structures say of the labels: their noise, or that something else decides them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data.in_order import InOrder, order_of
from ipip_ext.data.isometry import COPY_A
from ipip_ext.data.label_checks import name_of
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Array
from ipip_ext.units import MEV_PER_EV

_MOST_EV_PER_ATOM, _MOST_EV_PER_A = 0.05, 0.5
"""Labels of one structure that differ by more than this are not labels of one method."""

_DIGITS_MEV = 1e-3
"""Labels nearer to each other are equal but for the digits of a file."""


def check_noise(path: Path, frames: Sequence[Atoms], groups: Sequence[Sequence[int]]) -> Iterator[str]:
    """Yield a sentence on how far labels of equal structures are apart. groups: the frames that are the same.

    Raises DataError, naming two of them, where no noise explains it.
    """
    groups = [some for group in groups if len(some := [i for i in group if _is_whole(frames[i])]) > 1]
    if not groups:
        return
    energy = force = 0.0
    for first, *others in groups:
        for other in others:
            apart_eV, apart_eV_per_A = _apart(frames[first], frames[other])
            if apart_eV > _MOST_EV_PER_ATOM or apart_eV_per_A > _MOST_EV_PER_A:
                raise DataError(
                    f"{path}: {name_of(frames, first)} and {name_of(frames, other)} are one structure, but their labels"
                    f" are {apart_eV * MEV_PER_EV:.0f} meV/atom and {apart_eV_per_A * MEV_PER_EV:.0f} meV/A apart;"
                    " take the wrong one out, or tell their charge or spin (data.charge_key, data.spin_key)."
                )
            energy, force = max(energy, apart_eV), max(force, apart_eV_per_A)
    if max(energy, force) * MEV_PER_EV < _DIGITS_MEV:
        return
    yield (
        f"{path.name}: labels of equal structures differ by up to {energy * MEV_PER_EV:.2g} meV/atom and"
        f" {force * MEV_PER_EV:.2g} meV/A: no error below that means anything."
    )


def _is_whole(frame: Atoms) -> bool:
    return fr.ENERGY in frame.info and fr.FORCES in frame.arrays


def _apart(one: Atoms, other: Atoms) -> tuple[float, float]:
    """Return how far energies, eV/atom, and forces, eV/A, of two equal structures are apart."""
    energy = abs(one.info[fr.ENERGY] / len(one) - other.info[fr.ENERGY] / len(other))
    alike = len(one) == len(other) and np.array_equal(one.pbc, other.pbc)
    if alike and InOrder([one], COPY_A).nearest([other])[0] is not None:
        forces = (frame.arrays[fr.FORCES][order_of(frame)] for frame in (one, other))
        return energy, float(np.abs(np.subtract(*forces)).max())
    lengths = _lengths(one, len(other)) - _lengths(other, len(one))
    return energy, float(np.abs(lengths).max())


def _lengths(frame: Atoms, times: int) -> Array:
    """Return the lengths of forces, each so many times, in rising order: what turning and renumbering leaves."""
    return np.repeat(np.sort(np.linalg.norm(frame.arrays[fr.FORCES], axis=1)), times)
