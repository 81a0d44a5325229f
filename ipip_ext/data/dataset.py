"""The task's frames, checked and split; the same for `check` and for `run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.data.disjoint import check_disjoint, repeated
from ipip_ext.data.frame_checks import check_apart, check_elements
from ipip_ext.data.splits import split_valid, subset
from ipip_ext.errors import DataError
from ipip_ext.recipe.data import Data
from ipip_ext.run import provenance
from ipip_ext.run.telling import Tell, quiet

_last: dict[str, Dataset] = {}
"""The dataset that was loaded last, by what decides it: a run asks for it when it checks and when it prepares."""


@dataclass(frozen=True)
class Dataset:
    """Frames of a task. train: those that `data.n_train` leaves. e0s_eV: energy zero of each element in train.

    n_left_out: frames of train with a force above `data.max_force_eV_per_A`. findings: what a reader should know of
    them, a sentence each.
    """

    train: list[Atoms]
    valid: list[Atoms]
    test: list[Atoms]
    starts: list[Atoms]
    e0s_eV: dict[str, float]
    n_left_out: int = 0
    findings: tuple[str, ...] = ()


def load_dataset(data: Data, starts: Path, seed: int, tell: Tell = quiet) -> Dataset:
    """Read, check and split. Test is read first and never changed after. Asked again for the same, it is as it was.

    Raises DataError for anything that would make a training or a comparison wrong.
    """
    key = _key(data, starts, seed)
    if key is None or key not in _last:
        loaded = _load(data, starts, seed, tell)
        if key is None:
            return loaded
        _last.clear()
        _last[key] = loaded
    return _last[key]


def _key(data: Data, starts: Path, seed: int) -> str | None:
    """Return what decides a dataset, None if a file can't be read."""
    files = [path for path in (data.train, data.test, data.valid, starts) if path is not None]
    try:
        contents = [provenance.sha256(path) for path in files]
    except OSError:
        return None
    return f"{data.model_dump_json()} {starts} {seed} {contents}"


def _load(data: Data, starts: Path, seed: int, tell: Tell) -> Dataset:
    keys = fr.LabelKeys(data.energy_key, data.forces_key, data.stress_key)
    tell(0.0, "reading")
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
    whole = train
    if data.valid is not None:
        valid = fr.read_labelled(data.valid, keys, "valid-")
        check_magnitudes(data.valid, valid)
    else:
        train, valid = split_valid(data, train, seed)
    some = subset(data, train, seed)
    valid_path = data.valid or data.train
    everything = ((data.test, test), (starts, begin), (valid_path, valid), (data.train, train))
    for path, frames in everything:
        check_elements(path, frames, data, some)
    for path, frames in everything:
        check_apart(path, frames, tell)
    tell(1.0, "looking for frames that stand more than once")
    read = [(data.train, whole), (data.test, test)] + ([] if data.valid is None else [(data.valid, valid)])
    findings = tuple(said for path, frames in read for said in repeated(path, frames))
    try:
        check_disjoint(data, train, some, valid, test)
    except DataError as error:
        raise DataError(" Besides, ".join([str(error), *findings])) from None
    return Dataset(some, valid, test, begin, energy_zeros(data, some, isolated), n_left_out, findings)


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
