"""A corrected teacher: forces of its energy, labels that its coefficients say, and a file that keeps them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from corrections import NARROW, TEACHER, alloys, basis, correction, strained_alloy

from ipip_ext.potentials.base import Prediction
from ipip_ext.potentials.compute import compute_each
from ipip_ext.teachers.ase_potential import AsePotential
from ipip_ext.teachers.correction.fitted import Reach, TeacherCorrection
from ipip_ext.teachers.correction.potential import CorrectedPotential


class Counting(EMT):
    """EMT that counts its calls."""

    calls = 0

    def calculate(self, *args: object, **kwargs: object) -> None:
        self.calls += 1
        super().calculate(*args, **kwargs)


MOLECULE = Atoms("CuAlCu", positions=[[0, 0, 0], [2.2, 0.1, 0], [0.3, 1.9, 0.2]])


@pytest.mark.parametrize("atoms", [strained_alloy(1), MOLECULE, NARROW], ids=["crystal", "molecule", "narrow"])
@pytest.mark.parametrize("form", ["scale", "composition", "pair", "angular"])
def test_corrected_forces_are_those_of_the_corrected_energy(form, atoms):
    corrected = CorrectedPotential(TEACHER, correction(form))
    (here,) = corrected.compute([atoms])
    step = 1e-4
    for atom, axis in itertools.product(range(len(atoms)), range(3)):
        moved = [atoms.copy(), atoms.copy()]
        for sign, copy in zip((1, -1), moved, strict=True):
            copy.positions[atom, axis] += sign * step
        up, down = (told.energy_eV for told in corrected.compute(moved))
        assert here.forces_eV_per_A[atom, axis] == pytest.approx(-(up - down) / (2 * step), abs=1e-5)
    assert np.allclose(here.forces_eV_per_A.sum(axis=0), 0, atol=1e-9)
    assert not np.allclose(here.forces_eV_per_A, TEACHER.compute([atoms])[0].forces_eV_per_A, atol=1e-3)


def test_a_frame_that_the_teacher_fails_on_costs_itself_alone():
    frames, emt = alloys()[:4], Counting()
    frames[1].symbols[:] = "Mo"  # unknown to EMT
    corrected = CorrectedPotential(AsePotential(emt, "emt"), correction("pair"))
    found, why = compute_each(corrected, frames)
    assert list(why) == [1]
    assert "Mo" in why[1]
    assert np.isnan(found[1].energy_eV)
    assert emt.calls == len(frames)
    for index in (0, 2, 3):
        (alone,) = corrected.compute([frames[index]])
        assert found[index].energy_eV == alone.energy_eV
        np.testing.assert_array_equal(found[index].forces_eV_per_A, alone.forces_eV_per_A)


def test_apply_does_what_its_coefficients_say():
    frame, told = MOLECULE, Prediction(-3.0, np.arange(9.0).reshape(3, 3), np.eye(3))
    zeros = basis(zeros_eV=(-1.0, -0.5))  # of Al and Cu: -2 eV in all, so the teacher stands 1 eV below
    scale, composition, element = (
        TeacherCorrection(form, zeros, {form: np.array(values)}).apply([frame], [told])[0]
        for form, values in (("scale", [0.5]), ("composition", [0.3, 0.6]), ("element", [0.3, 0.6]))
    )
    assert scale.energy_eV == pytest.approx(-3.5)
    assert np.allclose(scale.forces_eV_per_A, 1.5 * told.forces_eV_per_A)
    assert scale.stress_eV_per_A3 is None
    assert composition.energy_eV == pytest.approx(-3.5)  # 0.3 / 3 + 0.6 * 2 / 3 is 0.5 too
    assert np.allclose(composition.forces_eV_per_A, 1.5 * told.forces_eV_per_A)
    assert element.energy_eV == -3.0
    assert np.allclose(element.forces_eV_per_A, told.forces_eV_per_A * np.array([[1.6], [1.3], [1.6]]))


def test_what_is_written_is_what_is_read(tmp_path):
    truth = correction("angular")
    n_columns = sum(map(len, truth.coefficients.values()))
    truth = replace(truth, reach=Reach(np.random.default_rng(1).normal(size=(n_columns, n_columns)), 500.0))
    truth.write(tmp_path / "correction.json", cross_validation=[])
    read = TeacherCorrection.read(tmp_path / "correction.json")
    told = TEACHER.compute([strained_alloy(7)])
    for one, other in zip(truth.apply([strained_alloy(7)], told), read.apply([strained_alloy(7)], told), strict=True):
        assert one.energy_eV == other.energy_eV
        assert np.array_equal(one.forces_eV_per_A, other.forces_eV_per_A)
    assert read.suffix == "+angular"
    assert TeacherCorrection("none", basis(), {}).suffix == ""
