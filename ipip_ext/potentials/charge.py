"""Charge and spin of a structure, where a calculator takes them: in `atoms.info`, under the names that files have."""

from __future__ import annotations

import math
from typing import Any

from ase import Atoms

CHARGE_KEYS = ("charge", "total_charge")
"""Charge of the whole cell, e."""

SPIN_KEYS = ("spin", "total_spin")
"""Spin multiplicity, 2S + 1."""

NEUTRAL, SINGLET = 0.0, 1.0


def charge_of(atoms: Atoms) -> float:
    """Return the charge of `atoms`, 0 where none is given. Raises ValueError for one that is no number."""
    return _value(atoms, CHARGE_KEYS, NEUTRAL)


def spin_of(atoms: Atoms) -> float:
    """Return the spin multiplicity of `atoms`, 1 where none is given. Raises ValueError for one that is no number."""
    return _value(atoms, SPIN_KEYS, SINGLET)


def state_of(atoms: Atoms) -> dict[str, Any]:
    """Return what `atoms.info` says of charge and spin, under its own keys."""
    return {key: atoms.info[key] for key in (*CHARGE_KEYS, *SPIN_KEYS) if key in atoms.info}


def same_state(one: Atoms, other: Atoms) -> bool:
    """Tell whether `info` says the same of charge and spin."""
    return repr(state_of(one)) == repr(state_of(other))


def state_key(atoms: Atoms) -> bytes:
    """Return what tells charge and spin of structures apart; nothing for a neutral singlet, said or not."""
    try:
        state = (charge_of(atoms), spin_of(atoms))
    except ValueError:  # no numbers: they are what they are
        return repr(state_of(atoms)).encode()
    return b"" if state == (NEUTRAL, SINGLET) else repr(state).encode()


def _value(atoms: Atoms, keys: tuple[str, ...], default: float) -> float:
    given = {key: atoms.info[key] for key in keys if key in atoms.info}
    try:
        values = {float(value) for value in given.values()}
    except (TypeError, ValueError):
        values = {math.nan}
    if len(values) > 1 or not all(map(math.isfinite, values)):
        raise ValueError(f"{' and '.join(f'{key} = {value!r}' for key, value in given.items())} is no {keys[0]}")
    return values.pop() if values else default
