"""What of a frame neither its orientation, nor the order of its atoms, nor the choice of its cell changes.

Smooth sums over the neighbours of each atom, and their means over the frame. Frames that differ in these are different;
frames that agree in them are compared atom by atom (`isometry.py`). A supercell has the means of its cell, so they are
found in a tree among any number of frames.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from ipip_ext.data.geometry import Neighbours, neighbours
from ipip_ext.potentials.base import Array
from ipip_ext.run.telling import Tell, quiet

N_INVARIANTS = 9
"""Invariants of an atom."""

_REACH_A, _REACH_PER_RADIUS = 5.0, 3.2
"""Cut-off: this far, or so many times the largest covalent radius where that is farther."""

_N_RADIAL = 6
_GOLDEN, _PLASTIC = 0.6180339887498949, 0.7548776662466927
"""Multiples of these scatter evenly over the unit interval: weights that tell elements apart."""

_MOST_KEPT = 200_000
_TOLD_EVERY = 200

_looks: OrderedDict[bytes, Look] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of a frame at one look.

    means: (2 * N_INVARIANTS,), of the atoms' invariants and of their squares. extremes: (2 * N_INVARIANTS,), the
    smallest and the largest of each. nearest_A: smallest distance of two atoms, periodic images included; closest: the
    smallest in units of the sum of covalent radii; both inf where no atom is within the cut-off of another.
    """

    means: Array
    extremes: Array
    nearest_A: float
    closest: float


def look_at(frames: Sequence[Atoms], tell: Tell = quiet, what: str = "frames") -> list[Look]:
    """Return a look at each frame. What this process has seen before is not looked at again.

    what: of `tell`, such as the name of their file.
    """
    found = []
    for index, frame in enumerate(frames):
        if index % _TOLD_EVERY == 0:
            tell(index / len(frames), f"looking at {what}, {index} of {len(frames)}")
        key = _content(frame)
        look = _looks.get(key)
        if look is None:
            look = _looks[key] = _look(frame)
            if len(_looks) > _MOST_KEPT:
                _looks.popitem(last=False)
        found.append(look)
    return found


def reach(frame: Atoms) -> float:
    """Return the cut-off for neighbours, Angstrom; equal for frames of the same elements."""
    return max(_REACH_A, _REACH_PER_RADIUS * float(covalent_radii[frame.numbers].max()))


def of_atoms(frame: Atoms, near: Neighbours, cutoff_A: float) -> Array:
    """Return the invariants of each atom, (n_atoms, N_INVARIANTS). near: all neighbours within `cutoff_A`.

    Six radial sums, the lengths of two vectors and the size of a traceless tensor: an atom that moves by 0.01 A changes
    them by some 0.01 for each neighbour.
    """
    sums = _sums(frame, near, cutoff_A)
    radial, tensor = sums[:, :_N_RADIAL], sums[:, _N_RADIAL + 6 :]
    vectors = sums[:, _N_RADIAL : _N_RADIAL + 6].reshape(-1, 2, 3)
    diagonal = tensor[:, :3] - tensor[:, :3].mean(axis=1, keepdims=True)
    size = np.sqrt((diagonal**2).sum(axis=1) + 2 * (tensor[:, 3:] ** 2).sum(axis=1))
    return np.column_stack([radial, np.linalg.norm(vectors, axis=2), size])


def _sums(frame: Atoms, near: Neighbours, cutoff_A: float) -> Array:
    """Return sums over neighbours, (n_atoms, 18): radial ones, two vectors, a symmetric tensor."""
    n_atoms = len(frame)
    sums = np.zeros((n_atoms, _N_RADIAL + 12))
    if not len(near.i):
        return sums
    distances = np.maximum(np.linalg.norm(near.vectors_A, axis=1), 1e-9)
    x, y, z = unit = near.vectors_A.T / distances
    cosine = np.cos(np.pi * distances / cutoff_A)
    terms = np.empty((_N_RADIAL + 12, len(distances)))
    terms[0] = 0.5 * (1 + cosine) * _weight(frame.numbers[near.j], _GOLDEN)
    terms[1] = terms[0] * cosine
    for k in range(2, _N_RADIAL):  # cos kx = 2 cos x cos (k-1)x - cos (k-2)x
        terms[k] = 2 * cosine * terms[k - 1] - terms[k - 2]
    first = _N_RADIAL
    terms[first : first + 3], terms[first + 3 : first + 6] = terms[0] * unit, terms[1] * unit
    terms[first + 6 :] = terms[0] * np.stack([x * x, y * y, z * z, x * y, x * z, y * z])
    counts = np.bincount(near.i, minlength=n_atoms)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums[counts > 0] = np.add.reduceat(terms, starts[counts > 0], axis=1).T
    return sums


def _weight(numbers: NDArray[np.int64], scatter: float) -> Array:
    return np.asarray(0.5 + np.mod(numbers * scatter, 1.0))


def _look(frame: Atoms) -> Look:
    cutoff_A = reach(frame)
    near = neighbours(frame, cutoff_A)
    atoms = of_atoms(frame, near, cutoff_A)
    weight = _weight(frame.numbers, _PLASTIC)[:, None]
    means = np.concatenate([(weight * atoms).mean(axis=0), np.sqrt((weight * atoms**2).mean(axis=0))])
    extremes = np.concatenate([atoms.min(axis=0), atoms.max(axis=0)])
    if not len(near.i):
        return Look(means, extremes, math.inf, math.inf)
    distances = np.linalg.norm(near.vectors_A, axis=1)
    radii = covalent_radii[frame.numbers]
    closest = float((distances / (radii[near.i] + radii[near.j])).min())
    return Look(means, extremes, float(distances.min()), closest)


def _content(frame: Atoms) -> bytes:
    """Return what tells structures apart that are not the same to the last bit."""
    found = hashlib.blake2b(digest_size=16)
    for values in (frame.numbers, frame.positions, frame.cell.array, frame.pbc):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.digest()
