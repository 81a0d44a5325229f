"""Calculators from recipe entries: forms, errors that help, and labels equal to the codes' own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from ipip_ext.backends import registry
from ipip_ext.errors import CalculatorError, StageFailed
from ipip_ext.potentials.base import FrameFailed, Potential
from ipip_ext.run.fingerprint import content
from ipip_ext.teachers import entries
from ipip_ext.teachers.ase_potential import AsePotential
from ipip_ext.teachers.entries import Entry, describe, identity, make, parse

DATA = Path(__file__).parents[2] / "recipes/data/mo_s_o"


@pytest.fixture(scope="module")
def frames():
    """Cells of three sizes, one with atoms moved across its borders as MD leaves them."""
    some = ase.io.read(DATA / "train.extxyz", index="::45")
    some += ase.io.read(DATA / "starts.extxyz", index="5:7")
    some.append(some[0].repeat((2, 1, 1)))
    some[1].positions += some[1].cell.array[0] * 3.3
    some[1].calc = None
    return some


@pytest.mark.parametrize(
    ("entry", "expected", "name"),
    [
        ("chgnet", Entry("chgnet", "0.3.0"), "chgnet"),
        ({"chgnet": "r2scan"}, Entry("chgnet", "r2scan"), "chgnet:r2scan"),
        ("xtb", Entry("xtb", "GFN1-xTB"), "xtb:GFN1-xTB"),
        ({"xtb": "IPEA1-xTB"}, Entry("xtb", "IPEA1-xTB"), "xtb:IPEA1-xTB"),
        ({"mace": "medium-mpa-0"}, Entry("mace", "medium-mpa-0"), "mace:medium-mpa-0"),
        ({"mace": "models/a.model"}, Entry("mace", "models/a.model"), "mace:a"),
        ({"python": "a.b:C", "kwargs": {"x": 1}}, Entry("python", "a.b:C", {"x": 1}), "python:C"),
        (
            {"python": "a.b:C", "interpreter": "/usr/bin/python3", "workers": 3},
            Entry("python", "a.b:C", {}, "/usr/bin/python3", 3),
            "python:C",
        ),
    ],
)
def test_forms(entry, expected, name):
    assert parse(entry) == expected
    assert describe(entry) == name
    assert parse(identity(entry)) == expected
    assert describe(identity(entry)) == name


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("chgnett", "chgnett: is unknown. Did you mean chgnet?"),
        ({"zzz": "x"}, "zzz: is unknown. Known: chgnet, lammps, mace, python, xtb."),
        ({}, "must hold one kind"),
        ({"xtb": "GFN1-xTB", "chgnet": "0.3.0"}, "must hold one kind"),
        ({"xtb": "GFN1-xTB", "kwargs": {}}, "must hold one kind"),
        ("mace", "needs a value, such as {mace: medium-mpa-0}"),
        ({"mace": ["a"]}, "needs a value"),
        ({"python": "a:b", "kwargs": 3}, "kwargs must be a section"),
        ({"xtb": "GFN-xTB"}, "method GFN-xTB is unknown. Did you mean GFN"),
        ({"chgnet": "r2scn"}, "neither a file nor a model's name. Did you mean r2scan?"),
        ({"mace": "nowhere.model"}, "nowhere.model: no such file; check the path, which is relative to the recipe"),
        ({"python": "ase"}, "must read module:factory"),
        ({"python": "asee.lj:LJ"}, "no module named asee in"),
        ({"python": "ase.calculators.emt:EMTT"}, "has no factory EMTT. Did you mean EMT?"),
    ],
)
def test_errors_say_what_and_how(entry, words, tmp_path):
    with pytest.raises(CalculatorError) as raised:
        entries.check(entry, tmp_path)
    assert words in str(raised.value)
    with pytest.raises(CalculatorError):
        make(entry, device="cpu", root=tmp_path)


def test_missing_packages_name_their_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    for entry, extra in (("chgnet", "chgnet"), ("xtb", "xtb")):
        with pytest.raises(CalculatorError, match=rf'pip install "ipip-mace\[{extra}\]"'):
            entries.check(entry)


def test_check_notes_and_passes():
    assert entries.check("chgnet") == []
    assert entries.check({"xtb": "GFN1-xTB"}) == []
    assert "GFN2-xTB" in entries.check({"xtb": "GFN2-xTB"})[0]


def test_identity_carries_a_files_content(tmp_path):
    (tmp_path / "a.model").write_bytes(b"weights")
    found = identity({"mace": str(tmp_path / "a.model")})
    assert found == {"mace": str(tmp_path / "a.model")}
    assert content(found)["mace"].startswith("sha256:")
    assert identity(found) == found
    assert identity({"python": "a:b", "kwargs": {"x": 1}}) == {"python": "a:b", "kwargs": {"x": 1}}


def test_mace_goes_to_its_backend(tmp_path, monkeypatch):
    asked = []

    class Backend:
        def foundation(self, name_or_file, device):
            asked.append((name_or_file, device))
            return AsePotential(EMT(), "m")

    monkeypatch.setattr(registry, "backend", lambda _name: Backend())
    (tmp_path / "a.model").write_bytes(b"")
    make({"mace": "a.model"}, device="cpu", root=tmp_path)
    make({"mace": "medium-mpa-0"}, device="cuda", root=tmp_path)
    assert asked == [(str(tmp_path / "a.model"), "cpu"), ("medium-mpa-0", "cuda")]


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
    with pytest.raises(FrameFailed) as raised:
        potential.compute([frames[0], Atoms("MoS", [[0, 0, 0], [0, 0, 2]])])
    assert raised.value.index == 1
    with pytest.raises(FrameFailed, match="stress needs pbc"):
        potential.compute([Atoms("Mo", cell=[9, 9, 9], pbc=(True, True, False))], stress=True)


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


def test_python_factories(tmp_path):
    copper = bulk("Cu", cubic=True)
    copper.rattle(0.1)
    copper.set_constraint(FixAtoms([0]))
    before = copper.copy()
    emt = make({"python": "ase.calculators.emt:EMT"}, device="cpu")
    found = emt.compute([copper], stress=True)[0]
    assert copper == before
    assert copper.calc is None
    free = before.copy()
    free.set_constraint()
    free.calc = EMT()
    assert found.energy_eV == free.get_potential_energy()
    assert np.array_equal(found.forces_eV_per_A, free.get_forces())
    assert np.any(found.forces_eV_per_A[0])
    assert np.array_equal(found.stress_eV_per_A3, free.get_stress(voigt=False))
    lj = make({"python": "ase.calculators.lj:LennardJones", "kwargs": {"sigma": 2.2, "rc": 5.0}}, device="cpu")
    assert lj.calculator().parameters["sigma"] == 2.2


def test_factories_beside_the_recipe(tmp_path):
    (tmp_path / "my_calculator_q1.py").write_text(
        "from ase.calculators.emt import EMT\n"
        "def ready(scale=1):\n    return EMT()\n"
        "def broken():\n    raise OSError('no licence')\n"
        "def wrong():\n    return 3\n"
        "class Batched:\n    name, n_parameters, batched = 'mine', 7, True\n"
        "    def compute(self, frames, *, stress=False):\n        return []\n"
        "    def calculator(self):\n        return EMT()\n"
    )
    (tmp_path / "my_broken_q1.py").write_text("1 / 0\n")
    assert make({"python": "my_calculator_q1:ready"}, device="cpu", root=tmp_path).name == "python:ready"
    assert make({"python": "my_calculator_q1:Batched"}, device="cpu", root=tmp_path).n_parameters == 7
    for target, kwargs, words in (
        ("my_calculator_q1:broken", {}, "broken() failed: OSError: no licence"),
        ("my_calculator_q1:ready", {"sclae": 2}, "ready(sclae=2) failed: TypeError"),
        ("my_calculator_q1:wrong", {}, "returned int; it must return an ASE calculator"),
        ("my_broken_q1:x", {}, "importing my_broken_q1 failed: ZeroDivisionError"),
    ):
        with pytest.raises(CalculatorError) as raised:
            make({"python": target, "kwargs": kwargs}, device="cpu", root=tmp_path)
        assert words in str(raised.value)


def test_a_failing_frame_is_named():
    potential = AsePotential(EMT(), "emt")
    with pytest.raises(FrameFailed, match="frame 1: emt: NotImplementedError: No EMT-potential for Fe") as raised:
        potential.compute([bulk("Cu"), bulk("Fe")])
    assert isinstance(raised.value, StageFailed)
    assert raised.value.index == 1
    with pytest.raises(FrameFailed, match="stress needs pbc"):
        potential.compute([Atoms("Cu")], stress=True)
