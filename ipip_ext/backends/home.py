"""A student's home: what it has learnt, as its own features of the training atoms, and how far others are from them.

The distance of an atom is that of its features to the nearest training atom of its element, in coordinates in which
training atoms that are near each other differ alike in all directions. Distances in a network's latent space tell where
its errors grow: Janet et al., Chem. Sci. 10, 7913 (2019); for interatomic potentials Zhu et al., J. Chem. Phys. 158,
164111 (2023). A nearest neighbour takes training frames of several phases as they are, where one Gaussian would take
what lies between them for known.

Units come from validation frames: 99 % of them lie wholly within a distance of 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.potentials.base import Array

Described = tuple[NDArray[np.int64], Array]
"""A frame: atomic numbers (n_atoms,) and features (n_atoms, n_features)."""

_QUANTILE = 0.99
_FEWEST_ATOMS = 20
"""Of an element in validation for it to have a unit of its own; with fewer all atoms give it one."""
_MOST_PLACES, _FEWEST_PLACES = 300, 32
_MOST_NUMBERS = 250_000
"""Of a home as far as places can be fewer: 1 MB in single precision."""
_MOST_ATOMS, _MOST_CANDIDATES, _MOST_COMPARED = 100_000, 20_000, 2_000
"""Of all frames together; of an element for places to be chosen from; of an element to be compared with each other."""
_NEAREST = 5
"""Near atoms by whose differences directions are scaled."""
_FLOOR, _NOISE = 1e-2, 1e-4
"""Narrowest direction that counts in full: in widths of the widest; in sizes of features, for single precision."""
_LEAST_UNIT = 1e-3


@dataclass(frozen=True, repr=False)
class Region:
    """What is known of an element.

    mean: (n_features,) of its training atoms. whitening: (n_features, n_features), which makes features less their mean
    differ alike in all directions. places: (n_places, n_features), training atoms, whitened. unit: distance that is 1.
    """

    mean: Array
    whitening: Array
    places: Array
    unit: float = 1.0

    def distances(self, features: Array) -> Array:
        """Return distances to the nearest place, in units, (n_atoms,). features: (n_atoms, n_features)."""
        here = (features - self.mean) @ self.whitening
        squared = (here**2).sum(axis=1)[:, None] + (self.places**2).sum(axis=1) - 2 * here @ self.places.T
        return np.asarray(np.sqrt(np.maximum(squared.min(axis=1), 0.0)) / self.unit)


@dataclass(frozen=True, repr=False)
class Home:
    """What a student knows, by atomic number."""

    regions: Mapping[int, Region]

    @property
    def n_features(self) -> int:
        """How long an atom's features are."""
        return len(next(iter(self.regions.values())).mean)

    def distances(self, numbers: NDArray[np.int64], features: Array) -> Array:
        """Return the home distance of each atom, (n_atoms,); infinite for an element that was not learnt."""
        found = np.full(len(numbers), np.inf)
        for number in np.unique(numbers):
            region = self.regions.get(int(number))
            if region is not None:
                rows = numbers == number
                found[rows] = region.distances(features[rows])
        return found


def drawn(frames: Sequence[Atoms]) -> list[Atoms]:
    """Return every n-th of many frames, as many as memory is for, and the first with an element that they lack."""
    every = -(-sum(len(frame) for frame in frames) // _MOST_ATOMS)
    chosen = set(range(0, len(frames), max(1, every)))
    known = {int(z) for i in chosen for z in frames[i].numbers}
    for index, frame in enumerate(frames):
        if not known.issuperset(frame.numbers.tolist()):
            chosen.add(index)
            known.update(frame.numbers.tolist())
    return [frames[index] for index in sorted(chosen)]


def settle(train: Sequence[Described], valid: Sequence[Described]) -> Home:
    """Return the home of a student that has learnt from `train`; units are those of `valid`."""
    numbers = np.concatenate([frame[0] for frame in train])
    features = np.concatenate([frame[1] for frame in train])
    owners = np.repeat(np.arange(len(train)), [len(frame[0]) for frame in train])
    elements = [int(number) for number in np.unique(numbers)]
    most = _n_places(features.shape[1], len(elements))
    regions = {z: _region(features[numbers == z], owners[numbers == z], most) for z in elements}
    return _calibrated(Home(regions), valid)


def _n_places(n_features: int, n_elements: int) -> int:
    left = _MOST_NUMBERS // n_elements - n_features * (n_features + 1)
    return int(np.clip(left // n_features, _FEWEST_PLACES, _MOST_PLACES))


def _region(features: Array, owners: NDArray[np.int64], n_places: int) -> Region:
    """Return the region of an element. features: (n_atoms, n_features) of its atoms, owners: (n_atoms,) of frames."""
    mean = features.mean(axis=0)
    away = features - mean
    noise = _NOISE * float(np.sqrt(np.mean(features**2)))
    some = slice(None, None, -(-len(away) // _MOST_COMPARED))
    whitening = _whitening(_differences(away[some], owners[some], _whitening(away, noise)), noise)
    places = away[:: -(-len(away) // _MOST_CANDIDATES)] @ whitening
    return Region(mean, whitening, places[_farthest_points(places, n_places)])


def _whitening(vectors: Array, noise: float) -> Array:
    """Return what makes `vectors` (n, n_features) have unit variance in all directions, (n_features, n_features)."""
    variances, directions = np.linalg.eigh(vectors.T @ vectors / len(vectors))
    widths = np.sqrt(np.maximum(variances, 0.0))
    # what hardly varies in training is no noise elsewhere, but may not outweigh all else
    return np.asarray(directions / np.maximum(widths, max(_FLOOR * widths.max(), noise, 1e-12)))


def _differences(away: Array, owners: NDArray[np.int64], whitening: Array) -> Array:
    """Return by what atoms differ from the nearest of other frames, (n, n_features); of one frame `away` itself.

    What separates phases would else count as a common variation, and what lies between them as known.
    """
    here = away @ whitening
    size = (here**2).sum(axis=1)
    squared = size[:, None] + size - 2 * here @ here.T
    squared[owners[:, None] == owners] = np.inf
    nearest = np.argsort(squared, axis=1, kind="stable")[:, :_NEAREST]
    rows, columns = np.nonzero(np.isfinite(np.take_along_axis(squared, nearest, axis=1)))
    return away[rows] - away[nearest[rows, columns]] if len(rows) else away


def _farthest_points(points: Array, n: int) -> list[int]:
    """Return the rows of at most `n` points that cover all: each is the one farthest from those before it."""
    row = int(np.argmin((points**2).sum(axis=1)))
    rows: list[int] = []
    nearest = np.full(len(points), np.inf)
    while len(rows) < n and nearest[row] > 0:
        rows.append(row)
        nearest = np.minimum(nearest, ((points - points[row]) ** 2).sum(axis=1))
        row = int(np.argmax(nearest))
    return rows


def _calibrated(home: Home, valid: Sequence[Described]) -> Home:
    """Return `home` in units by which a frame like those of `valid` lies within 1, atoms of all elements alike."""
    known = [_known(home, frame) for frame in valid]
    known = [(numbers, found) for numbers, found in known if len(found)]
    if not known:
        return home
    numbers, found = (np.concatenate([frame[part] for frame in known]) for part in (0, 1))
    of_all = float(np.quantile(found, _QUANTILE))
    units = {}
    for z in home.regions:
        own = found[numbers == z]
        unit = float(np.quantile(own, _QUANTILE)) if len(own) >= _FEWEST_ATOMS else of_all
        units[z] = max(unit, _LEAST_UNIT)
    largest = [max(value / units[int(z)] for z, value in zip(*frame, strict=True)) for frame in known]
    of_frames = max(float(np.quantile(largest, _QUANTILE)), _LEAST_UNIT)
    return Home({z: Region(r.mean, r.whitening, r.places, units[z] * of_frames) for z, r in home.regions.items()})


def _known(home: Home, frame: Described) -> tuple[NDArray[np.int64], Array]:
    distances = home.distances(*frame)
    finite = np.isfinite(distances)
    return frame[0][finite], distances[finite]
