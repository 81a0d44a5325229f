"""Distances that tell a physical structure from a broken one."""

from __future__ import annotations

import math

from ase import Atoms
from ase.data import covalent_radii
from matscipy.neighbours import neighbour_list


def closest_approach(atoms: Atoms, below: float) -> float:
    """Return the smallest distance in units of the sum of covalent radii, or inf if none is below `below`.

    Periodic images count, an atom's own too.
    """
    radii = covalent_radii[atoms.numbers]
    i, j, distances = neighbour_list(
        "ijd",
        positions=atoms.positions,
        cell=atoms.cell.complete().array,
        pbc=atoms.pbc,
        cutoff=2 * float(radii.max()) * below,
    )
    closest = float((distances / (radii[i] + radii[j])).min()) if len(i) else math.inf
    return closest if closest < below else math.inf
