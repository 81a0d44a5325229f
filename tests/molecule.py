"""A student of formic acid near its minimum, labelled by GFN1-xTB: what it knows ends where its O-H is turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext.backends import registry
from ipip_ext.backends.base import FitData, FitJob
from ipip_ext.data import frames as fr
from ipip_ext.data.metrics import fit_zeros
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe import students
from ipip_ext.recipe.training import Finetune

N_TRAIN, N_VALID = 64, 24

_RELAXED_A = (
    (-1.0105, -0.4375, 0.0), (-0.0006, 0.4236, 0.0), (1.1513, 0.1056, 0.0), (-0.6634, -1.3453, 0.0),
    (-0.3758, 1.4627, 0.0),
)  # fmt: skip


def minimum() -> Atoms:
    """Return HCOOH where GFN1-xTB's forces are zero: in a plane, the acid's H (index 3) towards the other O."""
    return Atoms("OCOHH", _RELAXED_A, info={"name": "HCOOH"})


def turned(angle_deg: float) -> Atoms:
    """Return it with O-H turned about C-O."""
    atoms = minimum()
    atoms.set_dihedral(2, 1, 0, 3, atoms.get_dihedral(2, 1, 0, 3) + angle_deg, indices=[3])
    return atoms


def near(seed: int, amplitude_A: float = 0.03) -> Atoms:
    """Return it with all atoms displaced a little."""
    atoms = minimum()
    atoms.rattle(amplitude_A, seed=seed)
    return atoms


def label(atoms: Atoms) -> Atoms:
    """Return a copy with xTB's labels."""
    from ipip_ext.teachers.xtb import XtbCalculator

    atoms = atoms.copy()
    atoms.calc = XtbCalculator(method="GFN1-xTB", verbosity=0)
    return fr.labelled(atoms, Prediction(atoms.get_potential_energy(), atoms.get_forces()), "xtb")


def train_student(folder: Path, epochs: int = 25) -> Path:
    """Train a student in seconds; return the folder that a user would take along, with where it is at home."""
    frames = [label(near(seed)) for seed in range(N_TRAIN + N_VALID)]
    train, valid = frames[:N_TRAIN], frames[N_TRAIN:]
    symbols = sorted(fr.elements(train))
    zeros = fit_zeros(fr.composition(train, symbols), np.array([frame.info[fr.ENERGY] for frame in train]))
    config = students.config_class("mace")(
        hidden_irreps="8x0e+8x1o", max_ell=2, r_max_A=4.0, radial_MLP=(16,), MLP_irreps="8x0e", num_bessel=6
    )
    backend = registry.backend("mace")
    new = backend.build(config, dict(zip(symbols, zeros, strict=True)), train, seed=0)
    (folder / "fit").mkdir()
    settings = Finetune(epochs=epochs, batch_size=8, lr=0.02)
    model = backend.fit(new, FitData(train, valid), settings, FitJob(0, folder / "fit", "cpu")).model
    backend.export(model, folder / "model")
    backend.settle(model, folder / "model", train, valid, "cpu")
    return folder / "model"
