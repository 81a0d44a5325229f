"""`python: module:factory`: installed ones, those beside the recipe, and what goes wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from ipip_ext.errors import CalculatorError
from ipip_ext.teachers.entries import make


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
