"""A student's home as a file beside its weights, without pickle."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from ipip_ext.backends.home import Home, Region
from ipip_ext.run.provenance import sha256

HOME = "home.safetensors"
"""The file beside a student."""

log = logging.getLogger("ipip_ext.home")

_KEY, _OF = "home", "1 of "
"""Format, and whose home it is. One word alone stands in the header: several would stand in any order."""

_MOST_BYTES = 64_000_000


def save(home: Home, weights: Path) -> Path:
    """Write `home` beside the student with these `weights`; return the file."""
    arrays: dict[str, NDArray[np.float32]] = {}
    for number, region in home.regions.items():
        parts = {"mean": region.mean, "whitening": region.whitening, "places": region.places, "unit": region.unit}
        arrays |= {f"{number}.{key}": np.ascontiguousarray(part, dtype=np.float32) for key, part in parts.items()}
    path = weights.with_name(HOME)
    save_file(arrays, path, {_KEY: _OF + sha256(weights)})
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
        told = (file.metadata() or {}).get(_KEY, "")
        if not told.startswith(_OF):
            raise ValueError("of an unknown format")
        if told != _OF + weights_sha256:
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
