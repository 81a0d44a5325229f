"""What coefficients add to energies and forces: by hand, in supercells, smoothly."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from corrections import NARROW

from ipip_ext.teachers.correction.columns import angular, pair, radial


@pytest.mark.parametrize("columns", [lambda a: pair(a, ("Al", "Cu"), 5.0, 6), lambda a: angular(a, 5.0, 3, 4)])
def test_a_supercell_is_its_cell_many_times(columns):
    one, many = columns(NARROW), columns(NARROW.repeat((2, 1, 2)))
    assert np.allclose(many.energy_eV, 4 * one.energy_eV)
    assert np.allclose(many.forces_eV_per_A, np.tile(one.forces_eV_per_A, (1, 4, 1)))
    assert np.abs(one.forces_eV_per_A).max() > 0.1


def test_columns_are_what_one_writes_down_by_hand():
    """A right angle: atoms at 2.0 and 2.5 Angstrom from the one in the corner."""
    corner = Atoms("CuAlAl", positions=[[0, 0, 0], [2.0, 0, 0], [0, 2.5, 0]])
    by_hand = lambda r: np.exp(-(((r - 1.0) / 3.0) ** 2) / 2) * (1 + np.cos(np.pi * r / 4.0)) / 2  # noqa: E731
    far = np.hypot(2.0, 2.5)
    assert pair(corner, ("Al", "Cu"), 4.0, 1).energy_eV == pytest.approx(
        [by_hand(far), by_hand(2.0) + by_hand(2.5), 0.0]  # Al-Al, Al-Cu, Cu-Cu
    )
    a, b, c = by_hand(2.0), by_hand(2.5), by_hand(far)
    cosines = ((a, b, 0.0), (a, c, 2.0 / far), (b, c, 2.5 / far))  # at the corner and at its two neighbours
    squares = 2 * (a**2 + b**2 + c**2)  # each neighbour with itself, at angle zero
    wanted = [sum(2 * x * y * cos**ell for x, y, cos in cosines) + squares for ell in (0, 1)]
    assert angular(corner, 4.0, 1, 1).energy_eV == pytest.approx(wanted)


def test_radial_functions_and_their_slopes_end_smoothly():
    r = np.linspace(0.5, 5.5, 5001)
    value, slope = radial(r, 5.0, 8)
    assert np.allclose(np.gradient(value, r, axis=0)[1:-1], slope[1:-1], atol=1e-4)
    assert np.abs(value[np.isclose(r, 5.0)]).max() < 1e-12
    assert np.abs(slope[np.isclose(r, 5.0)]).max() < 1e-12
