"""The task's frames, checked and split; the same for `check` and for `run`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list

from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.errors import DataError
from ipip_ext.recipe.data import Data
from ipip_ext.run.seeds import derive

SAME_A = 1e-3
"""Frames whose atoms all stand within this of each other are the same frame."""

TOUCHING_A = 0.05
"""Two atoms closer than this are one written twice."""


@dataclass(frozen=True)
class Dataset:
    """Frames of a task. train: those that `data.n_train` leaves. e0s_eV: energy zero of each element in train.

    n_left_out: frames of train with a force above `data.max_force_eV_per_A`.
    """

    train: list[Atoms]
    valid: list[Atoms]
    test: list[Atoms]
    starts: list[Atoms]
    e0s_eV: dict[str, float]
    n_left_out: int = 0


def load_dataset(data: Data, starts: Path, seed: int) -> Dataset:
    """Read, check and split. Test is read first and never changed after.

    Raises DataError for anything that would make a training or a comparison wrong.
    """
    keys = fr.LabelKeys(data.energy_key, data.forces_key, data.stress_key)
    test = fr.read_labelled(data.test, keys, "test-")
    train = fr.read_labelled(data.train, keys, "train-")
    begin = fr.read_structures(starts)
    for path, frames in ((data.test, test), (data.train, train)):
        check_magnitudes(path, frames)
    isolated = [frame for frame in train if len(frame) == 1]
    train = [frame for frame in train if len(frame) > 1]
    if not train:
        raise DataError(f"{data.train}: has one-atom frames only; training needs interacting atoms.")
    n_read, train = len(train), calm(data, train)
    n_left_out = n_read - len(train)
    if data.valid is not None:
        valid = fr.read_labelled(data.valid, keys, "valid-")
        check_magnitudes(data.valid, valid)
        check_disjoint(train, data.train, valid, data.valid)
    else:
        train, valid = split_valid(data, train, seed)
    some = subset(data, train, seed)
    everything = ((data.test, test), (starts, begin), (data.valid or data.train, valid), (data.train, train))
    for path, frames in everything:
        check_elements(path, frames, data, some)
    for path, frames in everything:
        check_apart(path, frames)
    check_disjoint(train, data.train, test, data.test)
    check_disjoint(valid, data.valid or data.train, test, data.test)
    return Dataset(some, valid, test, begin, energy_zeros(data, some, isolated), n_left_out)


def calm(data: Data, train: list[Atoms]) -> list[Atoms]:
    """Return the frames without a force above `data.max_force_eV_per_A`. Raises DataError if none is left."""
    limit = data.max_force_eV_per_A
    if limit is None:
        return train
    largest = [float(np.linalg.norm(frame.arrays[fr.FORCES], axis=1).max()) for frame in train]
    if min(largest) > limit:
        raise DataError(
            f"{data.train}: every frame has a force above data.max_force_eV_per_A = {limit:g} eV/A; raise it"
            f" (the calmest frame's largest is {min(largest):.3g})."
        )
    return [frame for frame, force in zip(train, largest, strict=True) if force <= limit]


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


def subset(data: Data, train: list[Atoms], seed: int) -> list[Atoms]:
    """Return the `data.n_train` frames to train on, in their order; a larger subset holds every smaller one.

    Raises DataError if there are fewer.
    """
    if data.n_train is None:
        return train
    if data.n_train > len(train):
        raise DataError(
            f"{data.train}: data.n_train is {data.n_train}, but {len(train)} frames are there to train on;"
            " lower it, or give more frames."
        )
    rng = np.random.default_rng(derive(seed, "n_train"))
    groups = _groups(train, data.split_keys if data.valid_split == "stratified" else ())
    shuffled = [[group[i] for i in rng.permutation(len(group))] for group in groups]
    turns = [shuffled[i] for i in rng.permutation(len(shuffled))]
    order = [i for turn in zip_longest(*turns) for i in turn if i is not None]
    return [train[i] for i in sorted(order[: data.n_train])]


def check_magnitudes(path: Path, frames: Sequence[Atoms]) -> None:
    """Raise DataError for labels whose size no eV and Angstrom explains."""
    forces = np.concatenate([f.arrays[fr.FORCES].ravel() for f in frames if len(f) > 1] or [np.ones(1)])
    mean = float(np.mean(np.abs(forces)))
    if mean > 25.0:
        raise DataError(
            f"{path}: the mean force component is {mean:.3g} eV/A; are the forces in kcal/mol/A, meV/A or Ry/bohr?"
            " Convert them to eV/A."
        )
    if mean < 1e-4:
        raise DataError(f"{path}: all forces are (nearly) zero ({mean:.1e} eV/A on average); were they written?")
    symbols = sorted(fr.elements(frames))
    counts = fr.composition(frames, symbols)
    energy = np.array([f.info[fr.ENERGY] for f in frames])
    rest = (energy - counts @ metrics.fit_zeros(counts, energy)) / counts.sum(axis=1)
    spread = float(np.sqrt(np.mean(rest**2)))
    if spread > 20.0:
        raise DataError(
            f"{path}: energies per atom scatter by {spread:.3g} eV about their composition;"
            " are they in meV, kcal/mol, or per cell of another size? Convert them to eV per cell."
        )


def check_disjoint(frames: Sequence[Atoms], path: Path, test: Sequence[Atoms], test_path: Path) -> None:
    """Raise DataError naming a frame of `frames` that also stands in `test`."""
    by_species: dict[bytes, list[int]] = defaultdict(list)
    for index, frame in enumerate(test):
        by_species[frame.numbers.tobytes()].append(index)
    for index, frame in enumerate(frames):
        for twin in by_species.get(frame.numbers.tobytes(), []):
            if same_structure(frame, test[twin]):
                raise DataError(
                    f"{test_path}: frame {twin} ({test[twin].info[fr.ID]}) also stands in {path}"
                    f" ({frame.info.get(fr.ID, index)}); take it out of one of them."
                )


def same_structure(a: Atoms, b: Atoms) -> bool:
    """Return whether two frames with equal species in order are one structure up to lattice translations of atoms."""
    if not np.allclose(a.cell.array, b.cell.array, atol=SAME_A):
        return False
    delta = a.positions - b.positions
    if a.pbc.any():
        delta = find_mic(delta, a.cell, a.pbc)[0]
    return bool(np.abs(delta).max() < SAME_A)


def energy_zeros(data: Data, train: Sequence[Atoms], isolated: Sequence[Atoms]) -> dict[str, float]:
    """Return the energy zero of each element in train, eV. Raises DataError if one can't be had."""
    symbols = sorted(fr.elements(train))
    if isinstance(data.e0s, dict):
        given, where = dict(data.e0s), "data.e0s"
    elif data.e0s == "isolated_atoms":
        given = {frame.get_chemical_symbols()[0]: float(frame.info[fr.ENERGY]) for frame in isolated}
        where = f"{data.train}: one-atom frames"
    else:
        energy = np.array([frame.info[fr.ENERGY] for frame in train])
        fitted = metrics.fit_zeros(fr.composition(train, symbols), energy)
        return dict(zip(symbols, map(float, fitted), strict=True))
    missing = [symbol for symbol in symbols if symbol not in given]
    if missing:
        raise DataError(f"{where} have no energy for {', '.join(missing)}; add it, or use e0s: fitted.")
    return {symbol: given[symbol] for symbol in symbols}


def check_elements(path: Path, frames: Sequence[Atoms], data: Data, train: Sequence[Atoms]) -> None:
    """Raise DataError naming a frame of `frames` with an element that `train` lacks."""
    known = fr.elements(train)
    lacks, remedy = f"{data.train} lacks", "label some frames with it"
    if data.n_train is not None:
        lacks, remedy = f"the {len(train)} frames that data.n_train draws from {data.train} lack", "raise data.n_train"
    for index, frame in enumerate(frames):
        new = sorted(set(frame.get_chemical_symbols()) - known)
        if new:
            raise DataError(
                f"{path}: frame {frame.info.get(fr.ID, index)} holds {', '.join(new)}, which {lacks}"
                f" ({', '.join(sorted(known))}); {remedy}, or take this one out."
            )


def check_apart(path: Path, frames: Sequence[Atoms]) -> None:
    """Raise DataError naming a frame in which two atoms stand in one place: no potential has forces there."""
    for index, frame in enumerate(frames):
        first, second = neighbor_list("ij", frame, TOUCHING_A)
        if len(first):
            raise DataError(
                f"{path}: frame {frame.info.get(fr.ID, index)}: atoms {first[0]} and {second[0]} stand in the same"
                " place; take the frame out."
            )


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
