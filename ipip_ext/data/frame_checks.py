"""Whether structures can be computed on at all, before anything is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data import geometry
from ipip_ext.data.invariants import look_at
from ipip_ext.data.keys import OWN, theirs
from ipip_ext.errors import DataError
from ipip_ext.recipe.data import Data
from ipip_ext.run.telling import Tell, quiet

TOUCHING_A = 0.05
"""Two atoms closer than this are one written twice."""


def check_not_own(data: Data) -> None:
    """Raise DataError for a key of the recipe that means one of ours in a user's file, where it has another name."""
    meant = [("data.split_keys", key) for key in data.split_keys]
    meant += [] if data.ood is None else [("data.ood.key", data.ood.key)]
    for where, key in meant:
        if key in OWN:
            raise DataError(
                f"{where}: {key} is a name that ipip-mace gives; what {data.train} has there is {theirs(key)}."
            )


def check_elements(path: Path, frames: Sequence[Atoms], data: Data, train: Sequence[Atoms]) -> None:
    """Raise DataError naming a frame of `frames` with an element that `train` lacks."""
    known = fr.elements(train)
    lacks, remedy = f"{data.train} lacks", "label some frames with it"
    for key in ("n_train", "n_labels"):
        if getattr(data, key) is not None:
            lacks, remedy = f"the {len(train)} frames that data.{key} draws from {data.train} lack", f"raise data.{key}"
    for index, frame in enumerate(frames):
        new = sorted(set(frame.get_chemical_symbols()) - known)
        if new:
            raise DataError(
                f"{path}: frame {frame.info.get(fr.ID, index)} holds {', '.join(new)}, which {lacks}"
                f" ({', '.join(sorted(known))}); {remedy}, or take this one out."
            )


def check_apart(path: Path, frames: Sequence[Atoms], tell: Tell = quiet) -> None:
    """Raise DataError naming a frame in which two atoms stand in one place: no potential has forces there."""
    for index, look in enumerate(look_at(frames, tell, path.name)):
        if look.nearest_A < TOUCHING_A:
            near = geometry.pairs(frames[index], TOUCHING_A)
            raise DataError(
                f"{path}: frame {frames[index].info.get(fr.ID, index)}: atoms {near.i[0]} and {near.j[0]} stand in the"
                " same place; take the frame out."
            )
