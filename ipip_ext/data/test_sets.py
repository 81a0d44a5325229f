"""The frames of the final comparison: read set by set, each frame for what labels it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data.leakage import copies
from ipip_ext.data.normalising import stored_labels
from ipip_ext.errors import DataError
from ipip_ext.recipe.data import Data

Sets = Sequence[tuple[str, int]]
"""Splits that named files of test frames make, with how many of the frames are of each, in their order."""

_SHOWN = 3
_NO_FORCES = frozenset({"positions", "momenta", "velocities", "magmoms", "initial_magmoms", "tags"})
"""Arrays that a frame without labels may have."""


def read_tests(data: Data, keys: fr.LabelKeys) -> dict[Path, list[Atoms]]:
    """Return the test frames, file by file; one may lack energy or forces, and says by its id of which set it is.

    Raises DataError for a file in which no frame has either, or whose forces seem to stand under another name.
    """
    found: dict[Path, list[Atoms]] = {}
    for split, path in data.tests.items():
        raw = fr.read_structures(path)
        whole = _may_have_others(raw, keys)
        found[path] = fr.normalised(raw, path, keys, f"{split.replace('_', '-', 1)}-", whole=whole)
    if len(found) < len(data.tests):
        raise DataError(f"{next(iter(found))}: stands in data.test more than once; name it once.")
    return found


def sets_of(data: Data, tests: Mapping[Path, Sequence[Atoms]]) -> Sets:
    """Return the splits that the recipe's named sets make; none of a single file."""
    if isinstance(data.test, Path):
        return ()
    return [(split, len(tests[path])) for split, path in data.tests.items()]


def lacking(path: Path, frames: Sequence[Atoms], keys: fr.LabelKeys) -> Iterator[str]:
    """Yield a sentence on each kind of label that some of the frames lack."""
    for what, key in (("forces", keys.forces), ("energy", keys.energy), ("stress", keys.stress or keys.virials)):
        has = [_HAS[what](frame) for frame in frames]
        if key is None or all(has):
            continue
        others = {"forces": "energies count alone", "energy": "forces count alone", "stress": "no error of it is told"}
        some = f"{has.count(False)} of {len(has)} frames have" if any(has) else "no frame has"
        yield f"{path.name}: {some} {key}; {others[what]}."


_HAS = {
    "forces": lambda frame: fr.FORCES in frame.arrays,
    "energy": lambda frame: fr.ENERGY in frame.info,
    "stress": lambda frame: fr.STRESS in frame.info,
}


def shared(tests: Mapping[Path, Sequence[Atoms]]) -> Iterator[str]:
    """Yield a sentence if a frame stands in two of the files."""
    if len(tests) < 2:
        return
    file_of = [path for path, frames in tests.items() for _ in frames]
    every = [frame for frames in tests.values() for frame in frames]
    found = [group for group in copies(every) if len({file_of[index] for index in group}) > 1]
    if found:
        told = ", ".join(" = ".join(str(every[index].info[fr.ID]) for index in group) for group in found[:_SHOWN])
        more = ", ..." if len(found) > _SHOWN else ""
        yield (
            f"data.test: {len(found)} frames stand in more than one file ({told}{more}). In test each counts as often."
        )


def _may_have_others(raw: Sequence[Atoms], keys: fr.LabelKeys) -> bool:
    """Whether no frame has forces, but something that may be these: then the key is more likely wrong than the file."""
    if any(keys.forces in {*frame.arrays, *stored_labels(frame)} for frame in raw):
        return False
    return any(
        np.shape(values) == (len(frame), 3) and name not in _NO_FORCES
        for frame in raw
        for name, values in (*frame.arrays.items(), *stored_labels(frame).items())
    ) or any(keys.forces in frame.info for frame in raw)
