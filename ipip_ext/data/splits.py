"""Which training frames validate, and which are trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from ase import Atoms

from ipip_ext.errors import DataError
from ipip_ext.recipe.data import Data
from ipip_ext.run.seeds import derive


def split_valid(data: Data, frames: list[Atoms], seed: int) -> tuple[list[Atoms], list[Atoms]]:
    """Return (train, valid); raises DataError if either would be empty."""
    rng = np.random.default_rng(derive(seed, "valid"))
    groups = _groups(frames, data.split_keys if data.valid_split != "random" else ())
    if data.valid_split == "grouped":
        chosen = _whole_groups(groups, data.valid_fraction * len(frames), rng)
    else:
        chosen = {i for group in groups for i in _share(group, data.valid_fraction, rng)}
    train = [frame for index, frame in enumerate(frames) if index not in chosen]
    valid = [frame for index, frame in enumerate(frames) if index in chosen]
    if not train or not valid:
        raise DataError(
            f"{data.train}: {len(frames)} frames are too few for valid_fraction {data.valid_fraction:g}"
            f" ({data.valid_split}): {len(train)} would train and {len(valid)} validate;"
            " give data.valid, more frames, or another fraction."
        )
    return train, valid


def subset(data: Data, train: list[Atoms], seed: int, key: str = "n_train") -> list[Atoms]:
    """Return the `data.n_train` frames to train on, in their order; a larger subset holds every smaller one.

    key: n_labels for those to train on and to validate by, which are drawn alike.
    Raises DataError if there are fewer.
    """
    wanted = getattr(data, key)
    if wanted is None:
        return train
    if wanted > len(train):
        raise DataError(
            f"{data.train}: data.{key} is {wanted}, but {len(train)} frames are there to"
            f" {'train on' if key == 'n_train' else 'train on and to validate by'}; lower it, or give more frames."
        )
    rng = np.random.default_rng(derive(seed, "n_train"))
    groups = _groups(train, data.split_keys if data.valid_split == "stratified" else ())
    shuffled = [[group[i] for i in rng.permutation(len(group))] for group in groups]
    turns = [shuffled[i] for i in rng.permutation(len(shuffled))]
    order = [i for turn in zip_longest(*turns) for i in turn if i is not None]
    return [train[i] for i in sorted(order[:wanted])]


def _groups(frames: Sequence[Atoms], keys: Sequence[str]) -> list[list[int]]:
    """Return the indices of the frames that agree in `keys`, group by group."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        groups["/".join(str(frame.info.get(key, "")) for key in keys)].append(index)
    return list(groups.values())


def _share(group: list[int], fraction: float, rng: np.random.Generator) -> list[int]:
    count = round(fraction * len(group))
    return [group[i] for i in rng.permutation(len(group))[:count]]


def _whole_groups(groups: list[list[int]], wanted: float, rng: np.random.Generator) -> set[int]:
    chosen: set[int] = set()
    for index in rng.permutation(len(groups)):
        if len(chosen) >= wanted:
            break
        chosen |= set(groups[index])
    return chosen
