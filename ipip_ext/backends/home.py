"""A student's home: what it has learnt, as its own features of the training atoms, and how far others are from them.

The distance of an atom is that of its features to the nearest training atom of its element, in coordinates in which
training atoms that are near each other differ alike in all directions. Distances in a network's latent space tell where
its errors grow: Janet et al., Chem. Sci. 10, 7913 (2019); for interatomic potentials Zhu et al., J. Chem. Phys. 158,
164111 (2023). A nearest neighbour takes training frames of several phases as they are, where one Gaussian would take
what lies between them for known.

Units come from validation frames: 99 % of them lie wholly within a distance of 1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from ipip_ext.potentials.base import Array
from ipip_ext.run.provenance import sha256

HOME = "home.safetensors"
"""The file beside a student."""

Described = tuple[NDArray[np.int64], Array]
"""A frame: atomic numbers (n_atoms,) and features (n_atoms, n_features)."""

log = logging.getLogger("ipip_ext.home")

_FORMAT = "1"
_QUANTILE = 0.99
_FEWEST_ATOMS = 20
"""Of an element in validation for it to have a unit of its own; with fewer all atoms give it one."""
_MOST_CANDIDATES, _MOST_PLACES, _FEWEST_PLACES = 20_000, 300, 32
_MOST_COMPARED, _NEAREST = 2_000, 5
_MOST_NUMBERS = 250_000  # of a file: 1 MB in single precision
_MOST_BYTES = 64_000_000  # of a file that is read
_FLOOR, _NOISE = 1e-2, 1e-4
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


def save(home: Home, weights: Path) -> Path:
    """Write `home` beside the student with these `weights`; return the file."""
    arrays: dict[str, NDArray[np.float32]] = {}
    for number, region in home.regions.items():
        parts = {"mean": region.mean, "whitening": region.whitening, "places": region.places, "unit": region.unit}
        arrays |= {f"{number}.{key}": np.ascontiguousarray(part, dtype=np.float32) for key, part in parts.items()}
    path = weights.with_name(HOME)
    save_file(arrays, path, {"format": _FORMAT, "weights_sha256": sha256(weights)})
    return path


def load(weights: Path, n_features: int) -> Home | None:
    """Return the home of the student with these `weights`; None where there is no such file beside them.

    None with a warning where it is broken, or is another student's: a model is none the worse without it.
    """
    path = weights.with_name(HOME)
    if not path.is_file():
        return None
    try:
        return _read(path, sha256(weights), n_features)
    except Exception as error:  # noqa: BLE001 - whatever a broken file leads to, the model beside it is whole
        log.warning("%s: can't be used (%s), so the student can't tell where it is not at home.", path, error)
        return None


def _read(path: Path, weights_sha256: str, n_features: int) -> Home:
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError("too large")
    with safe_open(path, framework="np") as file:
        told = file.metadata() or {}
        if told.get("format") != _FORMAT:
            raise ValueError("of an unknown format")
        if told.get("weights_sha256") != weights_sha256:
            raise ValueError("of another student")
        arrays = {key: np.asarray(file.get_tensor(key), dtype=np.float64) for key in file.keys()}  # noqa: SIM118
    numbers = sorted({int(key.partition(".")[0]) for key in arrays})
    regions = {}
    for number in numbers:
        mean, whitening, places, unit = (arrays[f"{number}.{key}"] for key in ("mean", "whitening", "places", "unit"))
        shapes = (mean.shape, whitening.shape, places.shape[1:], unit.shape, len(places) > 0)
        if shapes != ((n_features,), (n_features, n_features), (n_features,), (1,), True):
            raise ValueError("of other shapes than this student's")
        if not all(np.isfinite(each).all() for each in (mean, whitening, places, unit)) or unit[0] <= 0:
            raise ValueError("not finite")
        regions[number] = Region(mean, whitening, places, float(unit[0]))
    if not regions:
        raise ValueError("empty")
    return Home(regions)
