"""Cells of structures that need not go on in every direction.

Along an open direction a structure has no cell vector that means anything: files leave it zero, make it as long as they
like, or let it lie in the plane of the others. Nothing that is computed may depend on it, so here it is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ipip_ext.potentials.base import Array

FAR_A = 256.0
"""A crystal is brought back by multiples of this: nearer to the origin its positions stay what they are, bitwise."""

_NO_VOLUME_A3 = 1e-6

_FLAT = 1e-6
"""Volume in units of its edges' product below which vectors span nothing."""


def closed(cell: Array, pbc: Sequence[bool] | Array) -> Array:
    """Return the cell, (3, 3) A, with each open vector replaced by one of 1 A at right angles to all the others.

    It is right-handed where a vector is open, so its sense is free; a fully periodic cell is returned as it is.
    Raises ValueError if the periodic vectors span nothing.
    """
    periodic = np.asarray(pbc, dtype=bool)
    cell = np.asarray(cell, dtype=float)
    if is_flat(cell, periodic):
        raise ValueError("its periodic cell vectors span no volume")
    if periodic.all():
        return cell
    found = np.eye(3)
    found[periodic] = cell[periodic]
    open_axes = np.flatnonzero(~periodic)
    if len(open_axes) == 2:
        along = found[periodic][0] / np.linalg.norm(found[periodic])
        found[open_axes[0]] = _normalised(np.cross(along, np.eye(3)[np.argmin(np.abs(along))]))
    if len(open_axes) < 3:
        last = open_axes[-1]
        found[last] = _normalised(np.cross(found[(last + 1) % 3], found[(last + 2) % 3]))
    return found


def is_flat(cell: Array, pbc: Sequence[bool] | Array) -> bool:
    """Tell whether the periodic vectors lie in fewer dimensions than they are."""
    vectors = np.asarray(cell, dtype=float)[np.asarray(pbc, dtype=bool)]
    if not len(vectors):
        return False
    gram = float(np.linalg.det(vectors)) ** 2 if len(vectors) == 3 else float(np.linalg.det(vectors @ vectors.T))
    return gram <= _FLAT**2 * float(np.prod((vectors**2).sum(axis=1)))


def spacious(cell: Array, pbc: Sequence[bool] | Array) -> Array:
    """Return the cell as it is given where it has a volume, (3, 3) A, else `closed`."""
    return np.asarray(cell, dtype=float) if abs(np.linalg.det(cell)) > _NO_VOLUME_A3 else closed(cell, pbc)


def volume(atoms: Atoms) -> float:
    """Return the volume of the cell as it is given, A^3; 0 where it has none."""
    found = abs(float(np.linalg.det(atoms.cell.array)))
    return found if found > _NO_VOLUME_A3 else 0.0


def in_plane(cell: Array, pbc: Sequence[bool] | Array) -> Array | None:
    """Return the projection, (3, 3), on the space of the periodic vectors; None where that is all of space."""
    periodic = np.asarray(pbc, dtype=bool)
    if periodic.all():
        return None
    across = closed(cell, periodic)[~periodic]  # unit vectors, at right angles
    return np.asarray(np.eye(3) - across.T @ across)


def origins(means: Array, pbc: Array) -> Array:
    """Return what to subtract from positions in single precision, whose steps grow with the distance from the origin.

    means: (n, 3) A, of the atoms of n structures. pbc: (n, 3). The answer depends on where atoms stand and on nothing
    else, so a walk that is resumed is the same to the last bit.
    """
    crystal = np.asarray(pbc, dtype=bool).all(axis=1, keepdims=True)
    return np.where(crystal, FAR_A * np.round(means / FAR_A), means)


def boxed(atoms: Atoms, vacuum_A: float) -> Atoms:
    """Return a copy in a right-angled box along its open directions, in whose middle it stands, `vacuum_A` or more from
    its image; a fully periodic structure is returned as it is. Raises ValueError as `closed` does.

    The box is as long as a multiple of `vacuum_A`, so that it does not move with every atom: an energy that feels the
    box, as Ewald sums do, would have forces that don't.
    """
    if atoms.pbc.all():
        return atoms
    moved = atoms.copy()
    cell = closed(atoms.cell.array, atoms.pbc)
    for axis in np.flatnonzero(~atoms.pbc):
        along = atoms.positions @ cell[axis]
        height = vacuum_A * (1 + np.ceil(np.ptp(along) / vacuum_A))
        moved.positions += ((height - along.max() - along.min()) / 2) * cell[axis]
        cell[axis] *= height
    moved.set_cell(cell)
    return moved


def per_cell(stress: Array, atoms: Atoms, room: Atoms) -> Array:
    """Return the stress, (3, 3), of the cell as it is given, in its plane if it is a slab's, from that in `room`."""
    return stress if atoms.pbc.all() else of_plane(stress, atoms) * (volume(room) / volume(atoms))


def of_plane(stress: Array, atoms: Atoms) -> Array:
    """Return the stress, (3, 3), in the periodic directions of `atoms` alone."""
    plane = in_plane(atoms.cell.array, atoms.pbc)
    return stress if plane is None else np.asarray(plane @ stress @ plane)


def _normalised(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))
