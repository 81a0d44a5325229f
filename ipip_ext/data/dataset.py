"""The task's frames, checked and split; the same for `check` and for `run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data import metrics, states, weights
from ipip_ext.data.disjoint import check_disjoint, repeated
from ipip_ext.data.frame_checks import check_apart, check_elements, check_not_own
from ipip_ext.data.invariants import look_at
from ipip_ext.data.label_checks import check_labels
from ipip_ext.data.label_noise import check_noise
from ipip_ext.data.leakage import copies
from ipip_ext.data.normalising import is_isolated
from ipip_ext.data.splits import split_valid, subset
from ipip_ext.data.test_sets import Sets, lacking, read_tests, sets_of, shared
from ipip_ext.data.weights import counted, label_weights
from ipip_ext.errors import DataError
from ipip_ext.recipe.data import Data
from ipip_ext.run import picked
from ipip_ext.run.telling import Tell, quiet

_last: dict[str, Dataset] = {}
"""The dataset that was loaded last, by what decides it: a run asks for it when it checks and when it prepares."""


@dataclass(frozen=True)
class Dataset:
    """Frames of a task. train: those that `data.n_train` leaves. e0s_eV: energy zero of each element in train.

    n_left_out: frames of train with a force above `data.max_force_eV_per_A`. n_isolated: isolated atoms in train, which
    are not trained on. findings: what a reader should know of them, a sentence each. told: what labels are like, by
    the words that say of which; the teacher's on them among these once it was asked. test_sets: how many frames of
    test, one set after the other, are of each named set; () without.
    """

    train: list[Atoms]
    valid: list[Atoms]
    test: list[Atoms]
    starts: list[Atoms]
    e0s_eV: dict[str, float]
    n_left_out: int = 0
    n_isolated: int = 0
    findings: tuple[str, ...] = ()
    told: Mapping[str, str] = field(default_factory=dict)
    test_sets: Sets = ()

    @property
    def tests(self) -> dict[str, list[Atoms]]:
        """Test frames by the split that a named set makes; all of them as test without such sets."""
        found, end = {}, 0
        for split, count in self.test_sets or [("test", len(self.test))]:
            found[split] = self.test[end : end + count]
            end += count
        return found


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
    files = [path for path in (data.train, *data.tests.values(), data.valid, data.isolated_atoms, starts) if path]
    try:
        contents = [picked.content(path) for path in files]
    except OSError:
        return None
    return f"{data.model_dump_json()} {starts} {seed} {contents}"


def _load(data: Data, starts: Path, seed: int, tell: Tell) -> Dataset:
    check_not_own(data)
    tell(0.0, "reading")
    keys = _keys(data)
    tests = read_tests(data, keys)
    test = [frame for frames in tests.values() for frame in frames]
    valid, read = (_read(data, path, split) for path, split in ((data.valid, "valid"), (data.train, "train")))
    begin = fr.read_structures(starts)
    for frame in begin:
        states.take(frame, dict(frame.info), (data.charge_key, data.spin_key))
    isolated = [frame for frame in read if is_isolated(frame)]
    whole = [frame for frame in read if not is_isolated(frame)]
    if not whole:
        raise DataError(f"{data.train}: has isolated atoms only; training needs interacting atoms.")
    of_weights = _told_of_weights(data, tests, valid, whole)
    valid, whole = weights.without_weightless(valid), weights.without_weightless(whole)
    files = (*tests.items(), (data.train, whole), (data.valid, valid))
    learnt = [(data.train, whole), (data.valid or data.train, valid)]
    _check_states(data, [*learnt, *tests.items(), (starts, begin)])
    findings = [said for path, frames in files if path is not None for said in _look_into(path, frames, tell)]
    findings += [*of_weights, *states.spins_that_differ(data.train, whole)]
    findings += [said for path, frames in tests.items() for said in lacking(path, frames, keys)] + [*shared(tests)]
    train = calm(data, whole)
    n_left_out = len(whole) - len(train)
    train, valid, some = _divided(data, train, valid, seed)
    everything = (*tests.items(), (starts, begin), (data.valid or data.train, valid), (data.train, train))
    for path, frames in everything:
        check_elements(path, frames, data, some)
    for path, frames in everything:
        check_apart(path, frames, tell)
    tell(1.0, "looking for test and validation frames in training")
    try:
        check_disjoint(data, train, some, valid, tests)
    except DataError as error:
        raise DataError(" Besides, ".join([str(error), *findings])) from None
    return Dataset(
        some, valid, test, begin, energy_zeros(data, some, _lone_atoms(data, isolated)), n_left_out, len(isolated),
        tuple(findings), test_sets=sets_of(data, tests),
    )  # fmt: skip


def _divided(
    data: Data, train: list[Atoms], valid: list[Atoms], seed: int
) -> tuple[list[Atoms], list[Atoms], list[Atoms]]:
    """Return the frames that may train, those that validate, and those of the former that are trained on.

    valid: of a file of their own, if there is one.
    """
    if data.valid is not None:
        return train, valid, subset(data, train, seed)
    some, valid = split_valid(data, subset(data, train, seed, "n_labels"), seed)
    held = {id(frame) for frame in valid}
    return [frame for frame in train if id(frame) not in held], valid, subset(data, some, seed)


def _read(data: Data, path: Path | None, split: str) -> list[Atoms]:
    return [] if path is None else fr.read_labelled(path, _keys(data), f"{split}-")


def _keys(data: Data) -> fr.LabelKeys:
    return fr.LabelKeys(
        data.energy_key, data.forces_key, data.stress_key, data.virials_key, charge=data.charge_key, spin=data.spin_key
    )


def _check_states(data: Data, files: states.Files) -> None:
    for path, frames in files:
        states.check_states(path, frames)
    states.check_keys(data, files)
    states.check_one_charge(files)


def _told_of_weights(
    data: Data, tests: Mapping[Path, Sequence[Atoms]], valid: Sequence[Atoms], whole: Sequence[Atoms]
) -> list[str]:  # fmt: skip
    """Return what is to be told of weights of frames. Raises DataError for weights that can't be; in test all count."""
    for path, frames in tests.items():
        weights.check_weights(path, frames)
    said = []
    for of, what, some in ((data.valid, "validation", valid), (data.train, "training", whole)):
        if of is not None:
            weights.check_weights(of, some)
            weights.check_some_count(of, some)
            said += weights.told(of, what, some)
    return said


def _look_into(path: Path, frames: Sequence[Atoms], tell: Tell) -> list[str]:
    """Return a sentence on each thing that looks wrong. Raises DataError for what can't be right."""
    look_at(frames, tell, path.name)
    found = check_labels(path, counted(frames, "energy", "forces"))
    tell(1.0, f"looking for frames that stand more than once in {path.name}")
    groups = copies(frames)
    return [*found, *repeated(path, frames, groups), *check_noise(path, frames, groups)]


def _lone_atoms(data: Data, isolated: Sequence[Atoms]) -> Sequence[Atoms]:
    """Return the isolated atoms that energy zeros may be taken from: of a file of their own, or those in train."""
    if data.isolated_atoms is None:
        return isolated
    lone = fr.read_labelled(data.isolated_atoms, fr.LabelKeys(data.energy_key, data.forces_key), "atom-")
    for index, frame in enumerate(lone):
        if not is_isolated(frame):
            raise DataError(f"{data.isolated_atoms}: frame {index} is no isolated atom; take it out.")
    return lone


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


def energy_zeros(data: Data, train: Sequence[Atoms], isolated: Sequence[Atoms]) -> dict[str, float]:
    """Return the energy zero of each element in train, eV. Raises DataError if one can't be had."""
    symbols = sorted(fr.elements(train))
    if isinstance(data.e0s, dict):
        given, where = dict(data.e0s), "data.e0s"
    elif data.e0s == "isolated_atoms":
        given = {frame.get_chemical_symbols()[0]: float(frame.info[fr.ENERGY]) for frame in isolated}
        where = f"{data.isolated_atoms or data.train}: isolated atoms"
    else:
        energy = np.array([frame.info[fr.ENERGY] for frame in train])
        fitted = metrics.fit_zeros(fr.composition(train, symbols), energy, label_weights(train, "energy"))
        return dict(zip(symbols, map(float, fitted), strict=True))
    missing = [symbol for symbol in symbols if symbol not in given]
    if missing:
        raise DataError(f"{where} have no energy for {', '.join(missing)}; add it, or use e0s: fitted.")
    return {symbol: given[symbol] for symbol in symbols}
