"""Recipe entries of calculators: their forms, errors that help, and what decides their labels."""

from __future__ import annotations

import importlib.util

import pytest
from ase.calculators.emt import EMT

from ipip_ext.backends import registry
from ipip_ext.errors import CalculatorError
from ipip_ext.run.fingerprint import content
from ipip_ext.teachers import entries
from ipip_ext.teachers.ase_potential import AsePotential
from ipip_ext.teachers.entries import Entry, describe, identity, make, parse


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
