"""ASE calculators as potentials: a frame's label depends on that frame alone."""

from __future__ import annotations

import mo_s_o
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from ipip_ext.errors import StageFailed
from ipip_ext.potentials.base import FrameFailed
from ipip_ext.teachers.ase_potential import AsePotential
from ipip_ext.teachers.entries import make


@pytest.fixture(scope="module")
def frames():
    return mo_s_o.frames()


def test_xtb_is_tblite_and_remembers_nothing(frames):
    from tblite.ase import TBLite

    potential = make("xtb", device="cpu")
    assert (potential.name, potential.batched) == ("xtb:GFN1-xTB", False)
    first = potential.compute(frames[:2], stress=True)
    second = potential.compute(frames[1::-1], stress=True)[::-1]
    for frame, one, other in zip(frames, first, second, strict=False):
        atoms = frame.copy()
        atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
        assert one.energy_eV == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
        assert np.allclose(one.forces_eV_per_A, atoms.get_forces(), atol=1e-8)
        assert np.allclose(one.stress_eV_per_A3, atoms.get_stress(voigt=False), atol=1e-8)
        assert one.energy_eV == other.energy_eV
        assert np.array_equal(one.forces_eV_per_A, other.forces_eV_per_A)


def test_a_failing_frame_is_named():
    potential = AsePotential(EMT(), "emt")
    with pytest.raises(FrameFailed, match="frame 1: emt: NotImplementedError: No EMT-potential for Fe") as raised:
        potential.compute([bulk("Cu"), bulk("Fe")])
    assert isinstance(raised.value, StageFailed)
    assert raised.value.index == 1
    with pytest.raises(FrameFailed, match="stress needs a cell that is periodic in two directions"):
        potential.compute([Atoms("Cu")], stress=True)
