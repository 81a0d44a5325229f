"""Cells whose open vectors mean nothing, and neighbour lists that know it."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from structures import crystal, in_cell, moved, slab, structures, wire

from ipip_ext.data.geometry import closest_approach
from ipip_ext.potentials.cells import FAR_A, boxed, closed, in_plane, is_flat, origins
from ipip_ext.potentials.neighbours import neighbours

FLAT = np.array([[3.0, 0, 0], [6.0, 0, 0], [0, 0, 4.0]])


@pytest.mark.parametrize("kind", list(structures()))
def test_a_closed_cell_keeps_what_is_periodic_and_stands_upright_elsewhere(kind):
    atoms = structures()[kind]
    cell, pbc = closed(atoms.cell.array, atoms.pbc), atoms.pbc
    assert np.array_equal(cell[pbc], atoms.cell.array[pbc])
    for axis in np.flatnonzero(~pbc):
        others = np.delete(cell, axis, axis=0)
        assert np.allclose(others @ cell[axis], 0, atol=1e-12)
        assert np.linalg.norm(cell[axis]) == pytest.approx(1)
    if not pbc.all():
        assert np.linalg.det(cell) > 0


def test_periodic_vectors_that_span_nothing_are_refused():
    assert is_flat(FLAT, (True, True, False))
    assert not is_flat(FLAT, (True, False, True))
    assert is_flat(np.zeros((3, 3)), (False, False, True))
    assert not is_flat(np.zeros((3, 3)), (False, False, False))
    with pytest.raises(ValueError, match="span no volume"):
        neighbours("ij", np.zeros((1, 3)), FLAT, (True, True, True), 3.0)


def test_a_box_holds_the_atoms_in_its_middle_and_stays_while_they_move():
    atoms = boxed(wire(), 10.0)
    inside = atoms.cell.scaled_positions(atoms.positions)[:, :2]
    assert np.allclose(inside.min(axis=0) + inside.max(axis=0), 1)
    shaken = wire()
    shaken.rattle(0.05, seed=0)
    assert np.allclose(boxed(shaken, 10.0).cell.array, atoms.cell.array)
    assert atoms.cell.lengths()[:2] == pytest.approx([20, 20])
    assert boxed(crystal(), 10.0).cell.array.tolist() == crystal().cell.array.tolist()


def test_the_plane_of_a_slab():
    atoms = slab()
    plane = in_plane(atoms.cell.array, atoms.pbc)
    assert np.allclose(plane, np.diag([1, 1, 0]))
    assert in_plane(atoms.cell.array, (True, True, True)) is None


def test_crystals_near_the_origin_stay_where_they_are():
    means = np.array([[3.0, -2.0, FAR_A / 2 - 1], [1000.0, 0.0, -700.0], [1.5, 2.5, 3.5]])
    found = origins(means, np.array([[True] * 3, [True] * 3, [True, True, False]]))
    assert found.tolist() == [[0, 0, 0], [4 * FAR_A, 0, -3 * FAR_A], [1.5, 2.5, 3.5]]


def listed(atoms: Atoms, cutoff_A: float) -> list[tuple]:
    i, j, crossed = neighbours("ijS", atoms.positions, atoms.cell.array, atoms.pbc, cutoff_A)
    return sorted(zip(i.tolist(), j.tolist(), map(tuple, crossed.tolist()), strict=True))


def expected(atoms: Atoms, cutoff_A: float) -> list[tuple]:
    """ASE's list, of a cell that it can take."""
    i, j, crossed = neighbor_list("ijS", in_cell(atoms, closed(atoms.cell.array, atoms.pbc)), cutoff_A)
    return sorted(zip(i.tolist(), j.tolist(), map(tuple, crossed.tolist()), strict=True))


@pytest.mark.parametrize("kind", list(structures()))
def test_neighbours_are_ase_s(kind):
    atoms = structures()[kind]
    assert listed(atoms, 5.0) == expected(atoms, 5.0) != []


@pytest.mark.parametrize("far_A", [1e3, 1e6])
def test_neither_place_nor_box_nor_an_atom_that_flew_away_costs_anything(far_A):
    """Bins throughout such a box, or between such atoms, would take more memory than any machine has."""
    rng = np.random.default_rng(0)
    atoms = Atoms("Cu200", rng.normal(0, 5, (200, 3)))
    near = listed(atoms, 4.0)
    assert near == expected(atoms, 4.0)
    assert listed(moved(atoms, far_A), 4.0) == near
    assert listed(in_cell(atoms, [far_A] * 3), 4.0) == near
    atoms.positions[:3] += far_A
    assert listed(atoms, 4.0) == expected(atoms, 4.0)
    assert closest_approach(in_cell(atoms, [far_A] * 3), 0.7) == closest_approach(atoms, 0.7)
    chain = Atoms("Cu2000", np.arange(2000)[:, None] * [2.5, 0, 0])
    assert len(listed(chain, 3.0)) == 2 * 1999
