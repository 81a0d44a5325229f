"""CHGNet in batches: the numbers of its own calculator."""

from __future__ import annotations

import mo_s_o
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from structures import in_cell, in_vacuum, moved, structures

from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.base import FrameFailed, Potential
from ipip_ext.teachers.entries import make


@pytest.fixture(scope="module")
def frames():
    return mo_s_o.frames()


def test_chgnet_in_batches_is_chgnet(frames, capsys):
    from chgnet.model import CHGNetCalculator

    potential = make("chgnet", device="cpu")
    assert isinstance(potential, Potential)
    assert (potential.name, potential.n_parameters, potential.batched) == ("chgnet", 412_525, True)
    batches = [potential.compute(frames, stress=True)]
    potential.max_atoms = 30
    batches.append(potential.compute(frames, stress=True))
    batches.append([potential.compute([frame], stress=True)[0] for frame in frames])
    plain = potential.compute(frames)
    assert capsys.readouterr().out == ""
    calculator = CHGNetCalculator(use_device="cpu")
    for index, frame in enumerate(frames):
        atoms = frame.copy()
        atoms.calc = calculator
        for found in (batch[index] for batch in batches):
            assert found.energy_eV == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
            assert np.allclose(found.forces_eV_per_A, atoms.get_forces(), atol=2e-5)
            assert np.allclose(found.stress_eV_per_A3, atoms.get_stress(voigt=False), atol=1e-6)
        assert plain[index].stress_eV_per_A3 is None
        assert plain[index].energy_eV == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        assert np.allclose(plain[index].forces_eV_per_A, atoms.get_forces(), atol=2e-5)


def test_chgnet_takes_isolated_atoms_and_names_frames_it_cannot(frames):
    potential = make("chgnet", device="cpu")
    lone = Atoms("MoS", [[0, 0, 0], [0, 0, 15]], cell=[20, 20, 30], pbc=True)
    assert np.isfinite(potential.compute([frames[0], lone])[1].energy_eV)
    with pytest.raises(FrameFailed, match="no graph") as raised:
        potential.compute([frames[0], Atoms("Og", cell=[9, 9, 9], pbc=True)])
    assert raised.value.index == 1
    with pytest.raises(FrameFailed, match="stress needs a cell that is periodic in two directions"):
        potential.compute([Atoms("Mo", cell=[9, 9, 9], pbc=(True, False, False))], stress=True)


def test_a_molecule_needs_no_cell():
    """The numbers of CHGNet in a box with vacuum."""
    water, potential = molecule("H2O"), make("chgnet", device="cpu")
    for atoms in (water, in_cell(water, [200, 200, 200]), moved(water, 2000.0), in_vacuum(water, 20.0)):
        said = potential.compute([atoms])[0]
        assert said.energy_eV == pytest.approx(-14.80718, abs=1e-5)
        assert np.abs(said.forces_eV_per_A).max() == pytest.approx(0.518, abs=1e-3)
        atoms.calc = potential.calculator()
        assert atoms.get_potential_energy() == pytest.approx(said.energy_eV, abs=1e-6)
        assert np.allclose(atoms.get_potential_energies(), said.energies_eV, atol=1e-6)


def test_a_left_handed_cell_has_the_same_stress():
    """CHGNet itself divides by a signed volume."""
    potential = make("chgnet", device="cpu")
    right, left = (potential.compute([structures()[name]], stress=True)[0] for name in ("crystal", "left-handed"))
    assert np.allclose(right.stress_eV_per_A3, left.stress_eV_per_A3, atol=1e-6)
    atoms = structures()["left-handed"]
    atoms.calc = potential.calculator()
    assert np.allclose(atoms.get_stress(voigt=False), right.stress_eV_per_A3, atol=1e-6)
    assert np.abs(right.stress_eV_per_A3).max() > 1e-3


def test_chgnet_from_a_file(tmp_path, frames):
    import torch
    from chgnet.model import CHGNet

    model = CHGNet.load(use_device="cpu", verbose=False)
    torch.save({"model": model.as_dict()}, tmp_path / "mine.pth.tar")
    entry = {"chgnet": "mine.pth.tar"}
    found = make(entry, device="cpu", root=tmp_path)
    assert found.name == "chgnet:mine.pth"
    assert found.compute(frames[:1])[0].energy_eV == pytest.approx(
        make("chgnet", device="cpu").compute(frames[:1])[0].energy_eV, abs=1e-4
    )
    (tmp_path / "bad.pth").write_text("no model")
    with pytest.raises(CalculatorError, match=r"bad\.pth can't be loaded"):
        make({"chgnet": "bad.pth"}, device="cpu", root=tmp_path)
