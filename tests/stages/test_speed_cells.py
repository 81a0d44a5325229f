"""Which cells a step is timed on: about 100 atoms along what is periodic, a molecule as it is."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from ipip_ext.errors import RecipeError
from ipip_ext.recipe.evaluate import Evaluate
from ipip_ext.stages.speed_cells import main_size, sizes, start_of, supercell

CUBE = bulk("Cu", cubic=True)
"""Of 4 atoms."""


def boxed(length_A: float, *, pbc: bool) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([length_A] * 3)
    atoms.pbc = pbc
    return atoms


def slab(*, open_axis: int, is_periodic: bool = False) -> Atoms:
    atoms = fcc111("Ag", (1, 1, 4), a=4.05, vacuum=6.0)
    atoms.pbc = (True, True, is_periodic)
    order = np.roll([0, 1, 2], open_axis - 2)
    cell, pbc = atoms.cell.array[order], atoms.pbc[order]
    turned = Atoms(atoms.symbols, positions=atoms.positions[:, order], cell=cell[:, order], pbc=pbc)
    assert [bool(p) for p in turned.pbc] == [is_periodic or axis != open_axis for axis in range(3)]
    return turned


def test_three_sizes_are_timed_unless_the_recipe_says_which():
    assert sizes(CUBE, Evaluate(speed_supercell=(3, 3, 1))) == [(1, 1, 1), (3, 3, 1), (6, 3, 1)]
    assert sizes(CUBE, Evaluate(speed_supercell=(1, 1, 1))) == [(1, 1, 1), (2, 1, 1)]
    assert sizes(CUBE, Evaluate(speed_supercell=(2, 2, 1), speed_supercells=())) == [(2, 2, 1)]
    own = Evaluate(speed_supercell=(2, 2, 1), speed_supercells=((4, 4, 1), (1, 1, 1), (1, 2, 2)))
    assert sizes(CUBE, own) == [(1, 1, 1), (2, 2, 1), (4, 4, 1)]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (CUBE, (3, 3, 3)),  # 108 atoms
        (bulk("Cu"), (5, 5, 4)),  # 100
        (bulk("Cu", cubic=True) * (5, 1, 1), (1, 3, 2)),  # 120, the short sides first
        (slab(open_axis=2), (5, 5, 1)),
        (slab(open_axis=0), (1, 5, 5)),
        (slab(open_axis=1), (5, 1, 5)),
        (slab(open_axis=2, is_periodic=True), (5, 5, 1)),  # vacuum is not worth repeating
        (Atoms("Al2", [[0, 0, 0], [2.5, 0, 0]], cell=[5, 0, 0], pbc=(True, False, False)), (50, 1, 1)),
        (molecule("H2O"), (1, 1, 1)),
        (boxed(50.0, pbc=False), (1, 1, 1)),
        (boxed(20.0, pbc=True), (1, 1, 1)),
    ],
)  # fmt: skip
def test_repeats_that_nobody_names_make_about_100_atoms_of_what_is_periodic(start, expected):
    assert main_size(start, Evaluate()) == expected
    assert (1, 1, 1) in sizes(start, Evaluate())
    assert supercell([start], Evaluate()).positions.shape == (len(start) * np.prod(expected), 3)


def test_a_left_handed_cell_is_repeated_as_its_mirror_image():
    mirrored = bulk("Cu", cubic=True) * (1, 2, 1)
    mirrored.set_cell(mirrored.cell.array[[1, 0, 2]])
    assert np.linalg.det(mirrored.cell.array) < 0
    a, b, c = main_size(bulk("Cu", cubic=True) * (1, 2, 1), Evaluate())
    assert main_size(mirrored, Evaluate()) == (b, a, c)


def test_repeats_of_a_recipe_count_as_1_along_what_is_open():
    wanted = Evaluate(speed_supercell=(3, 3, 1))
    assert sizes(molecule("H2O"), wanted) == sizes(boxed(50.0, pbc=False), wanted) == [(1, 1, 1)]
    assert sizes(slab(open_axis=0), wanted) == [(1, 1, 1), (1, 3, 1), (1, 6, 1)]
    assert sizes(slab(open_axis=1), Evaluate(speed_supercells=((2, 2, 2),))) == [(2, 1, 2), (5, 1, 5)]


def test_a_large_start_is_not_doubled_unless_asked_for():
    assert sizes(CUBE * (4, 4, 4), Evaluate()) == [(1, 1, 1)]
    assert sizes(CUBE * (4, 4, 4), Evaluate(speed_supercell=(1, 1, 1))) == [(1, 1, 1), (2, 1, 1)]


def test_a_start_is_found_by_index_and_name():
    named = molecule("H2O")
    named.info["name"] = "water"
    assert start_of([CUBE, named], Evaluate(speed_start="water")) is named
    assert start_of([CUBE, named], Evaluate(speed_start=1)) is named
    with pytest.raises(RecipeError, match=r"speed_start: ice is no start. Known: 0, water"):
        start_of([CUBE, named], Evaluate(speed_start="ice"))
