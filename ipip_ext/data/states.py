"""Charge and spin as a part of what a frame is: under one name inside, the same throughout a recipe, and told.

No student has an input for them. So energies of frames of several charges would be one surface to it, and no longer
training would mend that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ase import Atoms

from ipip_ext.data.keys import ID
from ipip_ext.errors import DataError
from ipip_ext.potentials.charge import CHARGE_KEYS, NEUTRAL, SINGLET, SPIN_KEYS, charge_of, spin_of
from ipip_ext.recipe.data import Data

Files = Sequence[tuple[Path, Sequence[Atoms]]]

_MOST = 4
"""Values that are told one by one."""

_WAY_OUT = (
    "a student has no input for charge, so one recipe has one charge: put the frames of each into files of their own,"
    " or take the key out where it means something else"
)


def take(frame: Atoms, info: Mapping[str, object], keys: tuple[str | None, str | None]) -> None:
    """Give `frame` what `info` says of charge and spin under a user's `keys`; None: under the usual names.

    Where the recipe names a key, no other counts.
    """
    for key, usual in zip(keys, (CHARGE_KEYS, SPIN_KEYS), strict=True):
        if key is None:
            continue
        for name in usual:
            frame.info.pop(name, None)
        if key in info:
            frame.info[usual[0]] = info[key]


def check_states(path: Path, frames: Iterable[Atoms]) -> None:
    """Raise DataError, naming file and frame, for a charge or spin that is no number."""
    for index, frame in enumerate(frames):
        try:
            charge_of(frame), spin_of(frame)
        except ValueError as error:
            raise DataError(
                f"{path}: frame {_name(frame, index)}: {error}; give it as a number, or under a name of its own."
            ) from None


def check_keys(data: Data, files: Files) -> None:
    """Raise DataError for a key of charge or spin that the recipe names and no frame has."""
    for what, key, usual in (("charge_key", data.charge_key, CHARGE_KEYS), ("spin_key", data.spin_key, SPIN_KEYS)):
        if key is not None and not any(usual[0] in frame.info for _, frames in files for frame in frames):
            raise DataError(f"{data.train}: no frame has {key}, which data.{what} names; set it to the right one.")


def check_one_charge(files: Files) -> None:
    """Raise DataError, naming two frames, where charges differ among `files`."""
    first: tuple[str, float] | None = None
    for path, frames in files:
        for index, frame in enumerate(frames):
            name, charge = f"{path}: frame {_name(frame, index)}", _rounded(charge_of(frame))
            if first is None:
                first = (name, charge)
            elif charge != first[1]:
                raise DataError(
                    f"{name} has charge {charge:g}, {first[0]} has {first[1]:g} (0 where none is given); {_WAY_OUT}."
                )


def check_alike(path: Path, frames: Sequence[Atoms], data: Data, train: Sequence[Atoms]) -> None:
    """Raise DataError for frames of a file besides those of the data whose charge is not that of training."""
    check_states(path, frames)
    if not train:
        return
    wanted = _rounded(charge_of(train[0]))
    for index, frame in enumerate(frames):
        charge = _rounded(charge_of(frame))
        if charge != wanted:
            raise DataError(
                f"{path}: frame {index} has charge {charge:g}, the frames of {data.train} {wanted:g}; give it that"
                f" charge as charge={wanted:g} in its comment line, or take it out."
            )


def spins_that_differ(path: Path, frames: Sequence[Atoms]) -> list[str]:
    """Return a sentence on frames of one composition that have several spins."""
    spins: dict[str, set[float]] = defaultdict(set)
    for frame in frames:
        spins[frame.get_chemical_formula()].add(spin_of(frame))
    for formula, some in spins.items():
        if len(some) > 1:
            return [
                f"{path.name}: frames of {formula} have several spins ({_listed(some)}; 1 where none is given). A"
                " student has no input for spin, and learns their mean."
            ]
    return []


def told(frames: Sequence[Atoms]) -> str:
    """Return the one charge of `frames`, and their spins, in words; "" if they are neutral and nothing is said."""
    charges = {_rounded(charge_of(frame)) for frame in frames}
    spins = {spin_of(frame) for frame in frames}
    said = [f"charge {charge:+g} in every frame" for charge in charges if charge != NEUTRAL]
    if spins != {SINGLET}:
        said.append(f"spin multiplicity {_listed(spins)}")
    return (
        f"{', '.join(said)}; teachers that take it are given it, students learn it as a part of the labels"
        if said
        else ""
    )


def _listed(values: Iterable[float]) -> str:
    """Return some values in words, of many the first and the last."""
    rising = sorted(values)
    if len(rising) > _MOST:
        return f"{rising[0]:g} to {rising[-1]:g}"
    return ", ".join(f"{value:g}" for value in rising)


def _name(frame: Atoms, index: int) -> str:
    return str(frame.info.get(ID, index))


def _rounded(charge: float) -> float:
    """Return a charge without what sums of partial charges leave of it, e."""
    return round(charge, 3) + 0.0
