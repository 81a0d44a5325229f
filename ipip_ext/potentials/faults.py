"""Structures that no potential can label, found before any is asked: NaN may well give a finite energy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ipip_ext.potentials.base import Array, FrameFailed
from ipip_ext.potentials.cells import is_flat, volume

_AXES = "xyz"


def fault_of(atoms: Atoms) -> str | None:
    """Return why no potential can label `atoms`, in words that name the atom; None if nothing is wrong."""
    if len(atoms) == 0:
        return "it has no atoms"
    return position_fault(atoms.positions, atoms.get_chemical_symbols()) or cell_fault(atoms)


def position_fault(positions: Array, symbols: Sequence[str]) -> str | None:
    """Return which atom's position, of (n, 3) A, is not finite; None if all are. symbols: (n,), of the elements."""
    if np.isfinite(positions).all():
        return None
    atom, axis = np.argwhere(~np.isfinite(positions))[0]
    return f"atom {atom} ({symbols[atom]}): position is not finite ({_AXES[axis]} is {positions[atom, axis]})"


def cell_fault(atoms: Atoms) -> str | None:
    """Return what is wrong with the cell of `atoms`; None if nothing is. Open directions need no cell vector."""
    if not np.isfinite(atoms.cell.array).all():
        vector, axis = np.argwhere(~np.isfinite(atoms.cell.array))[0]
        return f"cell vector {vector} is not finite ({_AXES[axis]} is {atoms.cell.array[vector, axis]})"
    return "its periodic cell vectors span no volume" if is_flat(atoms.cell.array, atoms.pbc) else None


def stress_fault(atoms: Atoms) -> str | None:
    """Return why `atoms` have no stress; None if they have one, which of a slab is that in its plane."""
    if atoms.pbc.sum() < 2:
        return "stress needs a cell that is periodic in two directions or three"
    if volume(atoms) == 0:
        return "stress needs a volume: give the open cell vector a length"
    return None


def require_sound(frames: Sequence[Atoms], *, stress: bool = False) -> None:
    """Raise FrameFailed for the first frame that no potential can label, or that has no stress if that is asked for."""
    for index, atoms in enumerate(frames):
        why = fault_of(atoms) or (stress_fault(atoms) if stress else None)
        if why is not None:
            raise FrameFailed(index, why)
