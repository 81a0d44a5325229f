"""GFN-xTB of ions, and of what needs no cell."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from structures import in_cell, slab

from ipip_ext.potentials.base import FrameFailed
from ipip_ext.teachers.entries import make

pytest.importorskip("tblite")


@pytest.fixture(scope="module")
def xtb():
    return make("xtb", device="cpu")


def ion(**info):
    atoms = molecule("NH3")
    atoms.info.update(info)
    return atoms


def test_charge_and_spin_of_info_are_tblite_s_own(xtb):
    from tblite.ase import TBLite

    for info, options in (
        ({}, {}),
        ({"charge": 1, "spin": 2}, {"charge": 1, "multiplicity": 2}),
        ({"total_charge": -1, "total_spin": 2}, {"charge": -1, "multiplicity": 2}),
    ):
        atoms = molecule("NH3")
        atoms.calc = TBLite(method="GFN1-xTB", verbosity=0, **options)
        said = xtb.compute([ion(**info)])[0]
        assert said.energy_eV == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        assert np.allclose(said.forces_eV_per_A, atoms.get_forces(), atol=1e-5)


def test_its_calculator_sees_that_the_charge_has_changed(xtb):
    atoms, said = ion(), []
    atoms.calc = xtb.calculator()
    for charge in (0, 1, 0):
        atoms.info["charge"] = charge
        said.append(atoms.get_potential_energy())
    assert said[0] == pytest.approx(said[2], abs=1e-6)
    assert said[1] > said[0] + 5
    with pytest.raises(FrameFailed, match="charge = 'one' is no charge"):
        xtb.compute([ion(charge="one")])


def test_a_slab_is_the_same_in_any_cell_along_its_open_direction(xtb):
    flat = slab()
    said = [
        xtb.compute([in_cell(flat, [*flat.cell.array[:2], vector])])[0]
        for vector in ([0, 0, 9.0], [0, 0, 500.0], [0, 0, 0], [1.0, 0, 0])
    ]
    assert [p.energy_eV for p in said[1:]] == pytest.approx([said[0].energy_eV] * 3, abs=1e-6)
