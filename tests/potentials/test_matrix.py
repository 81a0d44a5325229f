"""Every potential at hand on every kind of structure: finite, alike wherever it stands, and the same by every door."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from foundation import write_foundation
from scipy.spatial.transform import Rotation
from structures import in_vacuum, moved, structures, turned
from tiny_mace import TINY

from ipip_ext import md
from ipip_ext.backends.committee import CommitteePotential
from ipip_ext.backends.conformance.task import alloy
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.potentials.base import Potential
from ipip_ext.recipe.walk import Explore, Guard
from ipip_ext.teachers.entries import make

STRUCTURES = structures()
ENTRIES = {
    "emt": {"python": "ase.calculators.emt:EMT"},
    "xtb": "xtb",
    "chgnet": "chgnet",
    "lammps": {"lammps": "lj/cut 4.0", "pair_coeff": ["* * 0.4 2.3"], "elements": ["Cu", "Al"]},
}
TOLERANCES = {"float32": 2e-4, "chgnet": 2e-4, "xtb": 1e-3}
"""How well equal energies agree, eV; forces as well, eV/A. 1e-5 where nothing stands here. tblite's own sums over
images depend on where in its cell a crystal stands, by some 1e-4."""
VACUUM = {"xtb": 0.02}
"""The same where only the vacuum differs: charges feel each other far across it."""
PACKAGES = {"xtb": "tblite", "chgnet": "chgnet", "lammps": "lammps"}


def student(dtype: str, seed: int = 3) -> Potential:
    config = TINY.model_copy(update={"dtype": dtype})
    model = MaceBackend().build(config, {"Cu": -0.5, "Al": 0.25}, [alloy(i) for i in range(3)], seed=seed)
    return MaceBackend().potential(model, "cpu")


def potential_of(name: str, folder: Path) -> Potential:
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")
    if name == "committee":
        return CommitteePotential([student("float64", seed) for seed in (1, 2)], name)
    if name == "mace":
        return make({"mace": str(write_foundation(folder / "foundation.model"))}, device="cpu")
    return make(ENTRIES[name], device="cpu") if name in ENTRIES else student(name)


class Answers:
    """What a potential says of all structures, as they are, elsewhere, turned and in vacuum, in one batch each."""

    def __init__(self, name: str, potential: Potential, folder: Path) -> None:
        self.name, self.potential, self.tolerance = name, potential, TOLERANCES.get(name, 1e-5)
        self.rotation = Rotation.random(random_state=5).as_matrix()
        frames = list(STRUCTURES.values())
        self.plain = self.batch(frames)
        self.moved = self.batch([moved(atoms, (41.0, -350.0, 130.0)) for atoms in frames])
        self.turned = self.batch([turned(atoms, self.rotation) for atoms in frames])
        self.vacuum = self.batch([in_vacuum(atoms) for atoms in frames])
        guard = Guard(max_force_eV_per_A=1e6, min_distance_factor=0.01, max_energy_rise_eV_per_atom=1e3)
        settings = Explore(
            starts=Path("unused"), ensemble="nve", n_steps=2, frame_every=2, temperatures_K=(300.0,), guard=guard
        )  # fmt: skip
        walks = md.plan_replicas(frames, settings, 1, "it00")
        walked = md.run(potential, walks, settings, folder, lambda *_: None).frames
        self.walked = dict(zip(STRUCTURES, walked, strict=True))
        self.after = self.batch(walked)

    def batch(self, frames):
        return dict(zip(STRUCTURES, self.potential.compute(frames), strict=True))


@pytest.fixture(scope="module", params=["float64", "float32", "committee", "mace", *ENTRIES])
def said(request, tmp_path_factory) -> Answers:
    folder = tmp_path_factory.mktemp("matrix")
    return Answers(request.param, potential_of(request.param, folder), folder / "walk")


@pytest.fixture(params=list(STRUCTURES))
def kind(request) -> str:
    return request.param


def same(one, other, tolerance, rotation=None):
    forces = one.forces_eV_per_A if rotation is None else one.forces_eV_per_A @ rotation
    assert other.energy_eV == pytest.approx(one.energy_eV, abs=tolerance)
    assert np.allclose(other.forces_eV_per_A, forces, rtol=0, atol=tolerance)


def test_energies_and_forces_are_finite_and_atoms_add_up(said, kind):
    found = said.plain[kind]
    assert np.isfinite(found.energy_eV)
    assert np.isfinite(found.forces_eV_per_A).all()
    assert np.allclose(found.forces_eV_per_A.sum(axis=0), 0, atol=2e-3)
    assert found.energies_eV.shape == (len(STRUCTURES[kind]),)
    assert found.energies_eV.sum() == pytest.approx(found.energy_eV, abs=1e-6)


def test_where_it_stands_does_not_matter(said, kind):
    same(said.plain[kind], said.moved[kind], said.tolerance)


def test_how_it_stands_does_not_matter(said, kind):
    same(said.plain[kind], said.turned[kind], said.tolerance, said.rotation)


def test_an_open_direction_is_vacuum(said, kind):
    same(said.plain[kind], said.vacuum[kind], VACUUM.get(said.name, said.tolerance))


def test_the_calculator_says_the_same(said, kind):
    atoms, found = STRUCTURES[kind].copy(), said.plain[kind]
    if (said.name, kind) == ("emt", "slab with a lying vector"):
        pytest.skip("ASE's own calculators can't have it")
    atoms.calc = said.potential.calculator()
    assert atoms.get_potential_energy() == pytest.approx(found.energy_eV, abs=said.tolerance)
    assert np.allclose(atoms.get_forces(), found.forces_eV_per_A, rtol=0, atol=said.tolerance)
    assert np.allclose(atoms.get_potential_energies(), found.energies_eV, rtol=0, atol=said.tolerance)


def test_md_walks_by_the_same(said, kind):
    frame, found = said.walked[kind], said.after[kind]
    assert not np.allclose(frame.positions, STRUCTURES[kind].positions) or len(frame) == 1
    assert frame.info["MD_energy"] == pytest.approx(found.energy_eV, abs=said.tolerance)
    assert np.allclose(frame.arrays["MD_forces"], found.forces_eV_per_A, rtol=0, atol=said.tolerance)


SLABS = ["slab", "slab, open along x", "slab, open first vector along y"]


@pytest.mark.parametrize("name", SLABS)
def test_stress_in_the_plane_is_the_energy_s_slope_by_the_cell_s_volume(said, name):
    atoms, step = STRUCTURES[name], 1e-3 if said.tolerance > 1e-5 else 1e-4
    found = said.potential.compute([atoms], stress=True)[0].stress_eV_per_A3
    along = atoms.cell.array[atoms.pbc][0] / np.linalg.norm(atoms.cell.array[atoms.pbc][0])
    frames = []
    for sign in (-1, 1):
        deformed = np.eye(3) + sign * step * np.outer(along, along)
        frames.append(turned(atoms, deformed))
    low, high = (told.energy_eV for told in said.potential.compute(frames))
    slope = (high - low) / (2 * step) / atoms.get_volume()
    assert along @ found @ along == pytest.approx(slope, rel=1e-3, abs=said.tolerance)
    across = np.cross(*atoms.cell.array[atoms.pbc])
    assert np.allclose(found @ across, 0, atol=1e-12)
