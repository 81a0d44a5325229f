"""Whether two frames are one structure: turned, mirrored, shifted, renumbered, in another cell or a multiple of it.

A potential can't tell such frames apart. One atom of the first is laid on an atom of the second, and two neighbours on
two of its neighbours, which fixes how the one is turned. From there the neighbours of neighbours are followed, until
every atom of both is laid on one whose neighbours stand where its own do.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ipip_ext.data import invariants
from ipip_ext.data.geometry import neighbours
from ipip_ext.potentials.base import Array

COPY_A = 1e-3
"""Frames whose atoms are farther from each other than this are not sought: independent frames of cold crystals, and of
molecules of few atoms, come as near as 0.01 A by chance once they may be turned and renumbered."""

_SLACK_A = 0.06
"""Neighbours are one if they stand this near once the frames lie on each other; how near they are is measured then."""

SLACK, _MEAN_SLACK = 0.02, 0.005
"""Atoms whose invariants differ by more, one or in the root mean square of all, are not tried on each other. Atoms that
are displaced by COPY_A in the root mean square differ by up to 0.015 and 0.003."""

_EDGE_A = 0.1
"""Neighbours this near to the cut-off may have theirs beyond it."""

_ONE_ATOM = 5
"""The neighbours of one atom may be farther off than those of all by this factor."""

_MOST_TRIALS = 1000
"""Ways of laying one frame on the other that are tried: more there are only among atoms that are nearly all alike."""

_WIDER, _MOST_WIDER = 2.0, 4
"""Factor on the cut-off while a frame falls apart by it, and how often."""


def distance(one: Atoms, other: Atoms) -> float | None:
    """Return how far the atoms of two frames are from each other once they lie on one another, Angstrom, or None.

    The root mean square of the displacements, estimated from those of neighbours relative to one another. None: it is
    above `COPY_A`. For frames that fall apart into pieces no one can say how these stand, so it is None too.
    """
    if len(one) < len(other):
        one, other = other, one
    if len(one) % len(other) and not (one.pbc.any() and other.pbc.any()):
        return None
    views = _views(one, other)
    if views is None:
        return None
    first, second = views
    for rotation, at, on in itertools.islice(_trials(first, second), _MOST_TRIALS):
        pairs = _follow(first, second, rotation, at, on)
        if pairs is not None and (found := _apart(*pairs)) < COPY_A:
            return found
    return None


@dataclass(frozen=True)
class _View:
    """A frame with its neighbours, atom by atom: indices and vectors, (n_neighbours,) and (n_neighbours, 3) A."""

    numbers: NDArray[np.int64]
    invariants: Array
    near: list[NDArray[np.int64]]
    vectors_A: list[Array]
    cutoff_A: float
    n_parts: int


def _views(one: Atoms, other: Atoms) -> tuple[_View, _View] | None:
    """Return both frames with neighbours within one cut-off, wide enough to hold each together; None if none is.

    None as well if their atoms are not alike.
    """
    cutoff_A = invariants.reach(one)
    for _ in range(_MOST_WIDER):
        first, second = _view(one, cutoff_A), _view(other, cutoff_A)
        if not _alike(first, second):
            return None
        if first.n_parts == second.n_parts == 1:
            return first, second
        cutoff_A *= _WIDER
    return None


def _view(frame: Atoms, cutoff_A: float) -> _View:
    near = neighbours(frame, cutoff_A)
    n_atoms = len(frame)
    ends = np.cumsum(np.bincount(near.i, minlength=n_atoms))[:-1]
    graph = coo_array((np.ones(len(near.i), dtype=bool), (near.i, near.j)), shape=(n_atoms, n_atoms))
    return _View(
        frame.numbers, invariants.of_atoms(frame, near, cutoff_A), np.split(near.j, ends),
        np.split(near.vectors_A, ends), cutoff_A,
        int(connected_components(graph, directed=False, return_labels=False)),
    )  # fmt: skip


def _alike(first: _View, second: _View) -> bool:
    """Return whether the atoms of both have the same invariants, sorted, element by element."""
    times = len(first.numbers) / len(second.numbers)
    square = 0.0
    for number in np.unique(first.numbers):
        own, others = (np.sort(view.invariants[view.numbers == number], axis=0) for view in (first, second))
        if len(own) != times * len(others):
            return False
        places = (np.arange(len(own)) * len(others)) // len(own)
        apart = own - others[places]
        if np.abs(apart).max() > SLACK:
            return False
        square += float((apart**2).sum())
    return square < _MEAN_SLACK**2 * first.invariants.size


def _trials(first: _View, second: _View) -> Iterator[tuple[Array, int, int]]:
    """Yield rotations, mirrored ones too, that lay an atom of the first on one of the second with two neighbours.

    The atom is the one with the fewest others like it.
    """
    apart = np.abs(first.invariants[:, None] - second.invariants[None]).max(axis=2)
    apart[first.numbers[:, None] != second.numbers[None]] = np.inf
    counts = (apart < SLACK).sum(axis=1)
    at = int(np.argmin(counts))
    basis = _basis(first, at)
    for on in np.argsort(apart[at], kind="stable")[: counts[at]]:
        for frame in _bases_like(first, at, basis, second, int(on)):
            yield frame, at, int(on)


def _basis(view: _View, at: int) -> tuple[int, int | None]:
    """Return the nearest neighbour of an atom, and the nearest that isn't in line with it."""
    vectors = view.vectors_A[at]
    order = np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")
    first = vectors[order[0]]
    for place in order[1:]:
        sine = np.linalg.norm(np.cross(first, vectors[place])) / np.linalg.norm(first) / np.linalg.norm(vectors[place])
        if sine > 0.3:
            return int(order[0]), int(place)
    return int(order[0]), None


def _bases_like(
    first: _View, at: int, basis: tuple[int, int | None], second: _View, on: int
) -> Iterator[Array]:  # fmt: skip
    """Yield rotations that lay the two neighbours `basis` of an atom on two like them of another's."""
    p, q = basis
    own, others = first.vectors_A[at], second.vectors_A[on]
    lengths = np.linalg.norm(others, axis=1)

    def like(place: int) -> NDArray[np.int64]:
        number = first.numbers[first.near[at][place]]
        same = second.numbers[second.near[on]] == number
        return np.flatnonzero(same & (np.abs(lengths - np.linalg.norm(own[place])) < _SLACK_A))

    for i in like(p):
        if q is None:
            yield _axes(others[i], None).T @ _axes(own[p], None)
            continue
        for j in like(q):
            if abs(np.linalg.norm(others[i] - others[j]) - np.linalg.norm(own[p] - own[q])) < _SLACK_A:
                for mirror in (1.0, -1.0):
                    turned = _axes(others[i], others[j])
                    turned[2] *= mirror
                    yield turned.T @ _axes(own[p], own[q])


def _axes(along: Array, towards: Array | None) -> Array:
    """Return three perpendicular unit vectors, (3, 3), the first along one vector, the second towards another."""
    x = along / np.linalg.norm(along)
    if towards is None:
        towards = np.eye(3)[int(np.argmin(np.abs(x)))]
    y = towards - (towards @ x) * x
    y /= np.linalg.norm(y)
    return np.array([x, y, np.cross(x, y)])


def _follow(
    first: _View, second: _View, rotation: Array, at: int, on: int
) -> tuple[Array, Array] | None:  # fmt: skip
    """Return the vectors to neighbours of both, laid on each other, (n, 3) each; None if some lie on none."""
    waiting, met = deque([(at, on)]), {(at, on)}
    own: list[Array] = []
    others: list[Array] = []
    while waiting:
        a, b = waiting.popleft()
        found = _match(first, second, rotation, a, b)
        if found is None:
            return None
        rows, columns = found
        own.append(first.vectors_A[a][rows])
        others.append(second.vectors_A[b][columns])
        if len(met) == 1:  # two neighbours fix it roughly, all of an atom's far better
            rotation = _best_rotation(own[0], others[0])
            if _apart(own[0], others[0]) > _ONE_ATOM * COPY_A:
                return None
        pairs = zip(first.near[a][rows].tolist(), second.near[b][columns].tolist(), strict=True)
        new = set(pairs) - met
        met |= new
        waiting.extend(sorted(new))
    return np.concatenate(own), np.concatenate(others)


def _match(
    first: _View, second: _View, rotation: Array, a: int, b: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:  # fmt: skip
    """Return which neighbours of atom a lie on which of atom b, or None if one of either lies on none."""
    own, others = first.vectors_A[a] @ rotation.T, second.vectors_A[b]
    apart = np.linalg.norm(own[:, None] - others[None], axis=2)
    apart[first.numbers[first.near[a]][:, None] != second.numbers[second.near[b]][None]] = np.inf
    if not apart.size:
        return None
    inner = first.cutoff_A - _EDGE_A
    lies, is_lain_on = apart.min(axis=1) < _SLACK_A, apart.min(axis=0) < _SLACK_A
    if not (lies | (np.linalg.norm(own, axis=1) > inner)).all():
        return None
    if not (is_lain_on | (np.linalg.norm(others, axis=1) > inner)).all():
        return None
    rows = np.flatnonzero(lies)
    return rows, apart[rows].argmin(axis=1)


def _best_rotation(own: Array, others: Array) -> Array:
    """Return the rotation, or mirrored one, that brings `own` nearest to `others` (Kabsch, Acta Cryst. A 32, 922)."""
    u, _, v = np.linalg.svd(own.T @ others)
    return np.asarray((u @ v).T)


def _apart(own: Array, others: Array) -> float:
    """Return the root mean square displacement of an atom: neighbours move by that much, in either of both."""
    left = own @ _best_rotation(own, others).T - others
    return float(np.sqrt((left**2).sum(axis=1).mean() / 2))
