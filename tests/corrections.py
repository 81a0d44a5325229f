"""Corrections of a teacher that is EMT, with random coefficients, and frames that such a teacher would label."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from ipip_ext.data import frames as fr
from ipip_ext.potentials.base import Prediction
from ipip_ext.teachers.ase_potential import AsePotential
from ipip_ext.teachers.correction.fitted import FORMS, Basis, TeacherCorrection

TEACHER = AsePotential(EMT(), "emt")
NARROW = Atoms("CuAl", positions=[[0, 0, 0], [1.3, 0.9, 1.1]], cell=[2.6, 2.7, 2.9], pbc=True)
"""Narrower than the cut-off, so that atoms are neighbours of their own images."""


def strained_alloy(seed: int, n_al: int = 1) -> Atoms:
    """Four rattled atoms of copper and aluminium, strained so that no two frames are one crystal."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
    atoms.symbols[:n_al] = "Al"
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.05, 0.05, (3, 3))), scale_atoms=True)
    atoms.rattle(0.15, rng=rng)
    return atoms


def alloys() -> list[Atoms]:
    return [strained_alloy(10 * seed + n_al, n_al) for seed in range(8) for n_al in range(4)]


def basis(**changes: object) -> Basis:
    return Basis(**{"elements": ("Al", "Cu"), "zeros_eV": (0.0, 0.0), "r_max_A": 4.0, "n_basis": 4, "max_ell": 3,
                    **changes})  # fmt: skip


def correction(form: str, seed: int = 0, **changes: object) -> TeacherCorrection:
    """A correction of some size with random coefficients."""
    rng, told = np.random.default_rng(seed), Prediction(0.0, np.zeros((4, 3)))
    n_columns = {
        block: len(basis(**changes).columns(block, strained_alloy(0), told).energy_eV) for block in FORMS[form]
    }
    return TeacherCorrection(form, basis(**changes), {b: rng.normal(0, 0.1, n) for b, n in n_columns.items()})


def references(by: TeacherCorrection, frames: list[Atoms]) -> list[Atoms]:
    """Frames whose reference labels are those of EMT, corrected."""
    truth = by.apply(frames, TEACHER.compute(frames))
    return [fr.labelled(frame, told, "reference") for frame, told in zip(frames, truth, strict=True)]
