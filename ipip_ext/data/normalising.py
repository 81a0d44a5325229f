"""A user's frame as ours: labels under one spelling and in one sign, and what else of it is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from ipip_ext.data.keys import (
    ENERGY,
    FORCES,
    ID,
    LABEL_WEIGHTS,
    OF_VIRIALS,
    SOURCE,
    STRESS,
    WEIGHTS,
    LabelKeys,
    set_aside,
)  # fmt: skip
from ipip_ext.errors import DataError
from ipip_ext.potentials.charge import CHARGE_KEYS, SPIN_KEYS

ISOLATED_A = 6.0
"""An atom with no other within this, its own images included, is by itself."""

_ISOLATED = "isolatedatom"


def stored_labels(atoms: Atoms) -> dict[str, Any]:
    """Return the plain labels that ASE has moved into a calculator."""
    return atoms.calc.results if isinstance(atoms.calc, SinglePointCalculator) else {}


def labels_in(atoms: Atoms, keys: LabelKeys) -> dict[str, Any]:
    """Return what a user's frame has under each key, None for what it lacks. An atom by itself feels no force."""
    stored = stored_labels(atoms)
    found = {
        "energy": atoms.info.get(keys.energy, stored.get(keys.energy)),
        "forces": atoms.arrays.get(keys.forces, stored.get(keys.forces)),
        "stress": None if keys.stress is None else atoms.info.get(keys.stress, stored.get(keys.stress)),
        "virials": None if keys.virials is None else atoms.info.get(keys.virials, stored.get(keys.virials)),
    }
    if found["forces"] is None and is_isolated(atoms):
        found["forces"] = np.zeros((1, 3))
    return found


def is_isolated(atoms: Atoms) -> bool:
    """Return whether a frame is one atom by itself: it says so (`config_type=IsolatedAtom`), or has no neighbour."""
    if len(atoms) != 1:
        return False
    said = str(atoms.info.get("config_type", "")).replace("_", "").replace(" ", "").lower()
    if said == _ISOLATED or not atoms.pbc.any():
        return True
    steps = np.stack(np.meshgrid(*[[-1, 0, 1] if p else [0] for p in atoms.pbc], indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = np.linalg.norm(steps @ atoms.cell.array, axis=1)
    return bool(lengths[steps.any(axis=1)].min() > ISOLATED_A)


def normalised_frame(atoms: Atoms, labels: dict[str, Any], where: str, frame_id: str) -> Atoms:
    """Return a frame with these labels under our names. Raises DataError for labels that are no numbers of their shape.

    Keys that only we write are set aside. where: start of the message. frame_id: its name.
    """
    frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.info = set_aside({key: value for key, value in atoms.info.items() if _is_kept(key, value)})
    frame.info[ID], frame.info[SOURCE] = frame_id, "reference"
    for key, label in ((ENERGY, "energy"), (STRESS, "stress")):
        if labels[label] is None:  # of another name than the recipe's, so no label of ours
            frame.info.pop(key, None)
    if labels["energy"] is not None:
        frame.info[ENERGY] = float(_finite(labels["energy"], (), "energy", where))
    if labels["forces"] is not None:
        frame.arrays[FORCES] = _finite(labels["forces"], (len(atoms), 3), "forces", where)
    if labels["stress"] is not None:
        frame.info[STRESS] = _tensor(labels["stress"], "stress", atoms, where)
    if labels["virials"] is not None:
        if OF_VIRIALS in atoms.info:
            frame.info[LABEL_WEIGHTS["stress"]] = atoms.info[OF_VIRIALS]
        frame.info[STRESS] = -_tensor(labels["virials"], "virials", atoms, where) / atoms.cell.volume
    return frame


def _is_kept(key: Any, value: Any) -> bool:
    """Return whether an entry of a user's `info` goes on with the frame: words, numbers, and what decides something."""
    decides = (*WEIGHTS, *CHARGE_KEYS, *SPIN_KEYS)
    return isinstance(key, str) and (isinstance(value, str | int | float | np.generic) or key in decides)


def _finite(value: Any, shape: tuple[int, ...], what: str, where: str) -> NDArray[np.float64]:
    array = _numbers(value, what, where)
    if array.shape != shape:
        raise DataError(f"{where}: {what}: shape {array.shape} where {shape} is needed; label the frame again.")
    if not np.all(np.isfinite(array)):
        raise DataError(f"{where}: {what}: NaN or infinite; label the frame again or take it out.")
    return array


def _numbers(value: Any, what: str, where: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(value)
        if array.dtype != bool:  # what a key without a value is
            return array.astype(float)
    except (TypeError, ValueError):
        pass
    raise DataError(f"{where}: {what}: not numbers; label the frame again.")


def _tensor(value: Any, what: str, atoms: Atoms, where: str) -> NDArray[np.float64]:
    array = _numbers(value, what, where)
    if not atoms.pbc.all():
        raise DataError(f"{where}: {what} needs pbc='T T T' (with vacuum where there is none to feel it).")
    if array.size == 6:
        array = voigt_6_to_full_3x3_stress(array.ravel())
    return _finite(array.reshape(3, 3) if array.size == 9 else array, (3, 3), what, where)
