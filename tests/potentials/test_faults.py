"""What no potential can label is one error that names the atom, at every door."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloy import cell, label, refused
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from tiny_mace import TINY

from ipip_ext import md
from ipip_ext.backends.committee import CommitteePotential
from ipip_ext.backends.conformance.task import E0S_EV, alloy
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.data.frames import read_structures
from ipip_ext.errors import DataError, IpipError
from ipip_ext.potentials.base import FrameFailed
from ipip_ext.potentials.compute import compute_each
from ipip_ext.potentials.faults import fault_of
from ipip_ext.recipe.walk import Explore
from ipip_ext.teachers.ase_potential import AsePotential
from ipip_ext.teachers.entries import make


def spoilt(how: str) -> Atoms:
    atoms = cell(1)
    if how == "cell":
        atoms.cell[1, 2] = np.inf
    elif how == "flat":
        atoms.set_cell(atoms.cell.array[[0, 0, 2]])
    else:
        atoms.positions[2, 1] = float(how)
    return atoms


CASES = {
    "nan": r"atom 2 \(Cu\): position is not finite \(y is nan\)",
    "-inf": r"atom 2 \(Cu\): position is not finite \(y is -inf\)",
    "cell": r"cell vector 1 is not finite \(z is inf\)",
    "flat": r"its periodic cell vectors span no volume",
}


@pytest.fixture(scope="module")
def model():
    return MaceBackend().build(TINY, E0S_EV, [alloy(0)], seed=1)


@pytest.fixture(scope="module", params=["student", "committee", "emt", "remote", "xtb", "chgnet", "lammps"])
def potential(request, model):
    student = MaceBackend().potential(model, "cpu")
    lammps = {"lammps": "lj/cut 4.0", "pair_coeff": ["* * 0.4 2.3"], "elements": ["Cu", "Al"]}
    remote = {"python": "ase.calculators.emt:EMT", "interpreter": "python"}
    match request.param:
        case "student":
            return student
        case "committee":
            return CommitteePotential([student, MaceBackend().potential(model, "cpu")], "committee")
        case "emt":
            return AsePotential(EMT(), "emt")
        case name:
            pytest.importorskip({"xtb": "tblite"}.get(name, "ase" if name == "remote" else name))
            return make({"remote": remote, "lammps": lammps}.get(name, name), device="cpu")


@pytest.mark.parametrize("how", list(CASES))
def test_a_potential_names_the_atom_and_the_frame(potential, how):
    frames = [cell(0), spoilt(how), cell(2)]
    with pytest.raises(FrameFailed, match=CASES[how]) as raised:
        potential.compute(frames)
    assert raised.value.index == 1
    predictions, failures = compute_each(potential, frames)
    assert list(failures) == [1]
    assert np.isfinite([predictions[0].energy_eV, predictions[2].energy_eV]).all()
    assert np.isnan(predictions[1].energy_eV)


@pytest.mark.parametrize("how", list(CASES))
def test_a_calculator_names_the_atom(potential, how):
    if isinstance(potential, AsePotential) and potential.name == "emt":
        pytest.skip("a calculator of ASE's own")
    atoms = spoilt(how)
    atoms.calc = potential.calculator()
    with pytest.raises((IpipError, ValueError), match=CASES[how]):
        atoms.get_potential_energy()


def test_an_optimiser_that_goes_astray_hears_of_it(model):
    atoms = cell(1)
    atoms.calc = MaceBackend().calculator(model, "cpu")
    assert np.isfinite(atoms.get_potential_energy())
    atoms.positions[0, 0] = np.nan
    with pytest.raises(IpipError, match=r"atom 0 \(Cu\): position is not finite"):
        atoms.get_potential_energy()


def test_a_session_names_the_atom(model):
    frames = [cell(0), cell(1)]
    session = MaceBackend().potential(model, "cpu").session([*frames, spoilt("cell")])
    positions = np.concatenate([atoms.positions for atoms in [*frames, frames[0]]])
    positions[6, 2] = np.nan
    _, _, failures = session.compute(positions)
    assert failures == {
        1: "atom 2 (Cu): position is not finite (z is nan)",
        2: "cell vector 1 is not finite (z is inf)",
    }


@pytest.mark.parametrize("how", ["nan", "cell", "flat"])
def test_md_does_not_begin_there(how):
    with pytest.raises(DataError, match=rf"start start0: {CASES[how]}"):
        md.plan_replicas([spoilt(how)], Explore(starts=Path("unused")), 1, "it00")


def test_readers_name_file_frame_and_atom(tmp_path):
    bad = label(cell(1))
    bad.positions[3, 0] = np.nan
    ase.io.write(tmp_path / "bad.extxyz", [label(cell(0)), bad], format="extxyz")
    with pytest.raises(DataError, match=r"bad.extxyz: frame 1: atom 3 \(Cu\): position is not finite \(x is nan\)"):
        read_structures(tmp_path / "bad.extxyz")
    said = refused("evaluate", "{python: 'ase.calculators.emt:EMT'}", tmp_path / "bad.extxyz")
    assert "frame 1: atom 3 (Cu): position is not finite" in said


def test_nothing_is_wrong_with_what_needs_no_cell():
    assert fault_of(Atoms("Cu")) is None
    assert fault_of(Atoms("Cu", cell=[0, 0, 3], pbc=(False, False, True))) is None
    assert fault_of(Atoms()) == "it has no atoms"


def test_a_calculator_without_energies_of_atoms_has_none():
    class Plain(LennardJones):
        implemented_properties = ("energy", "forces")

        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results.pop("energies")

    assert AsePotential(Plain(), "plain").compute([cell(0)])[0].energies_eV is None
    assert AsePotential(LennardJones(), "lj").compute([cell(0)])[0].energies_eV.shape == (4,)
