"""Small structures of copper and aluminium as people have them: molecules, wires, slabs and crystals in odd cells."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111

from ipip_ext.potentials.cells import boxed


def molecule() -> Atoms:
    return Atoms("Cu3Al", [[0, 0, 0], [2.4, 0, 0.2], [1.1, 2.1, 0], [1.2, 0.8, 2.0]])


def wire() -> Atoms:
    """Periodic along z alone, with no other cell vector."""
    return Atoms("CuAl", [[0, 0, 0], [0.3, 0.2, 2.4]], cell=[0, 0, 4.9], pbc=(False, False, True))


def slab() -> Atoms:
    """Three layers with vacuum along z, where it is open."""
    atoms = fcc111("Cu", (1, 1, 3), a=3.7)
    atoms.symbols[1] = "Al"
    atoms.rattle(0.08, seed=1)
    atoms.pbc = (True, True, False)
    atoms.center(vacuum=8.0, axis=2)
    return atoms


def crystal() -> Atoms:
    """Four atoms in a cell smaller than any cut-off."""
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
    atoms.symbols[0] = "Al"
    atoms.rattle(0.1, seed=2)
    return atoms


def upright(atoms: Atoms, order: tuple[int, int, int]) -> Atoms:
    """Return `atoms` with axes x, y, z in another, cyclic `order`; cell vectors turn along and keep their places."""
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array[:, order])
    turned.positions = atoms.positions[:, order]
    return turned


def in_cell(atoms: Atoms, cell: object, **changes: object) -> Atoms:
    """Return `atoms` where they stand, in another cell."""
    moved = atoms.copy()
    moved.set_cell(cell, **changes)
    return moved


def reordered(atoms: Atoms, order: list[int]) -> Atoms:
    """Return `atoms` with their cell vectors, and what is periodic, in another order."""
    moved = in_cell(atoms, atoms.cell.array[order])
    moved.pbc = atoms.pbc[order]
    return moved


def structures() -> dict[str, Atoms]:
    """Return one of each kind, by name."""
    flat, whole = slab(), crystal()
    shear = np.array([[1, 0.2, 0.1], [0, 1, 0.15], [0, 0, 1]])
    lying = flat.cell.array.copy()
    lying[2] = lying[0] + 0.3 * lying[1]  # the open vector in the plane of the others
    return {
        "molecule": molecule(),
        "molecule in a box": in_cell(molecule(), [30, 30, 30]),
        "wire": wire(),
        "wire along x": reordered(upright(wire(), (2, 0, 1)), [2, 0, 1]),
        "slab": flat,
        "slab without open vector": in_cell(flat, flat.cell.array * [[1], [1], [0]]),
        "slab with a lying vector": in_cell(flat, lying),
        "slab, open along x": upright(flat, (2, 0, 1)),
        "slab, open first vector along y": reordered(upright(flat, (1, 2, 0)), [2, 0, 1]),
        "one atom": bulk("Cu", a=3.7),
        "crystal": whole,
        "left-handed": in_cell(whole, whole.cell.array[[1, 0, 2]]),
        "triclinic": in_cell(whole, whole.cell.array @ shear, scale_atoms=True),
    }


def in_vacuum(atoms: Atoms, vacuum_A: float = 40.0) -> Atoms:
    """Return `atoms` in a fully periodic cell with so much vacuum where they are open."""
    box = boxed(atoms, vacuum_A).copy()
    box.pbc = True
    return box


def moved(atoms: Atoms, by: object) -> Atoms:
    """Return `atoms` elsewhere, in the same cell."""
    copy = atoms.copy()
    copy.positions += by
    return copy


def turned(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    """Return `atoms` and their cell under `rotation`, (3, 3), from the right."""
    copy = in_cell(atoms, atoms.cell.array @ rotation)
    copy.positions = atoms.positions @ rotation
    return copy
