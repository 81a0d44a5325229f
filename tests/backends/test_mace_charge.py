"""A MACE that embeds charge and spin gets them from `atoms.info`, as MACE's own calculator gives them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from alloy import cell
from ase import Atoms

from ipip_ext import md
from ipip_ext.backends.mace._mace import default_dtype, modules, o3
from ipip_ext.data import frames as fr
from ipip_ext.errors import CalculatorError, StageFailed
from ipip_ext.potentials.base import FrameFailed
from ipip_ext.recipe.walk import Explore
from ipip_ext.teachers.entries import make

BOTH = {
    "total_charge": {"type": "categorical", "per": "graph", "num_classes": 11, "emb_dim": 4, "offset": 5},
    "total_spin": {"type": "categorical", "per": "graph", "num_classes": 6, "emb_dim": 4},
}
STATES = [{}, {"charge": 1, "spin": 2}, {"total_charge": -2, "total_spin": 3}, {"charge": -1}, {"spin": 3}]


def write_model(path: Path, kind: type = modules.ScaleShiftMACE, specs: dict = BOTH) -> Path:
    """Write a tiny MACE of the kind that MACE-OMOL is, with an energy of charge and spin alone."""
    block = modules.RealAgnosticResidualInteractionBlock
    scale = {"atomic_inter_scale": 0.7, "atomic_inter_shift": -0.1} if kind is modules.ScaleShiftMACE else {}
    with default_dtype(torch.float64):
        torch.manual_seed(0)
        module = kind(
            r_max=4.5, num_bessel=6, num_polynomial_cutoff=5, max_ell=1, interaction_cls=block,
            interaction_cls_first=block, num_interactions=2, num_elements=2, hidden_irreps=o3.Irreps("8x0e"),
            MLP_irreps=o3.Irreps("8x0e"), gate=torch.nn.functional.silu, atomic_energies=np.array([-2.0, -3.0]),
            avg_num_neighbors=12.0, atomic_numbers=[13, 29], correlation=2, radial_MLP=[16], use_embedding_readout=True,
            embedding_specs=specs, **scale,
        )  # fmt: skip
    torch.save(module, path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("omol") / "omol.model")


@pytest.fixture(scope="module")
def teacher(model):
    return make({"mace": str(model)}, device="cpu")


def charged(state: dict) -> Atoms:
    atoms = cell(1)
    atoms.info.update(state)
    return atoms


def test_energies_are_those_of_mace_s_calculator(model, teacher, tmp_path):
    frames = [charged(state) for state in STATES]
    code = (
        "import json, sys, ase.io; from mace.calculators import MACECalculator;"
        "calc = MACECalculator(model_paths=sys.argv[1], device='cpu'); found = []\n"
        "for atoms in ase.io.read(sys.argv[2], ':'):\n"
        "    told = {k.removeprefix('total_'): v for k, v in atoms.info.items()}\n"
        "    atoms.info = {'charge': 0, 'spin': 1} | told; atoms.calc = calc\n"
        "    found.append([atoms.get_potential_energy(), float(abs(atoms.get_forces()).max())])\n"
        "print(json.dumps(found))"
    )
    ase.io.write(tmp_path / "in.extxyz", frames, format="extxyz")
    done = subprocess.run(
        [sys.executable, "-c", code, model, tmp_path / "in.extxyz"], check=True, capture_output=True, text=True
    )
    expected = json.loads(done.stdout.splitlines()[-1])
    said = teacher.compute(frames)
    for found, (energy, force) in zip(said, expected, strict=True):
        assert found.energy_eV == pytest.approx(energy, abs=1e-6)
        assert np.abs(found.forces_eV_per_A).max() == pytest.approx(force, abs=1e-6)
        assert found.energies_eV.sum() == pytest.approx(found.energy_eV, abs=1e-9)
    assert len({round(found.energy_eV, 3) for found in said}) == len(STATES)


def test_the_calculator_sees_that_the_charge_has_changed(teacher):
    atoms, said = charged({}), []
    atoms.calc = teacher.calculator()
    for charge in (0, 1, 0):
        atoms.info["charge"] = charge
        said.append(atoms.get_potential_energy())
    assert said[0] == said[2] != said[1]


def test_md_walks_with_the_charge_and_its_frames_carry_it(teacher, tmp_path):
    settings = Explore(starts=Path("unused"), n_steps=4, frame_every=2, temperatures_K=(300.0,))
    walks = md.plan_replicas([charged({"charge": 1, "spin": 2}), charged({})], settings, 1, "it00")
    frames = md.run(teacher, walks, settings, tmp_path / "walk", lambda *_: None).frames
    assert [frame.info.get("charge") for frame in frames] == [1, 1, None, None]
    fr.write_frames(tmp_path / "frames.extxyz", frames)
    for frame, said in zip(frames, teacher.compute(fr.read_frames(tmp_path / "frames.extxyz")), strict=True):
        assert frame.info["MD_energy"] == pytest.approx(said.energy_eV, abs=1e-5)
    other = md.plan_replicas([charged({"charge": 0, "spin": 2}), charged({})], settings, 1, "it00")
    with pytest.raises(Exception, match="holds MD of other starts"):
        md.run(teacher, other, settings, tmp_path / "walk", lambda *_: None)


@pytest.mark.parametrize(("state", "words"), [
    ({"charge": 9}, "total_charge is 9, and the model knows whole numbers from -5 to 5"),
    ({"charge": 0.5}, r"total_charge is 0\.5"),
    ({"spin": "up"}, "spin = 'up' is no spin"),
    ({"charge": 1, "total_charge": 2}, "charge = 1 and total_charge = 2 is no charge"),
])  # fmt: skip
def test_what_the_model_cannot_embed_is_named(teacher, state, words):
    with pytest.raises(FrameFailed, match=words) as raised:
        teacher.compute([charged({}), charged(state)])
    assert raised.value.index == 1
    atoms = charged(state)
    atoms.calc = teacher.calculator()
    with pytest.raises(StageFailed, match=words):
        atoms.get_forces()
    energies, _, failures = teacher.session([charged({}), charged(state)]).compute(
        np.concatenate([cell(1).positions] * 2)
    )
    assert np.isfinite(energies[0])
    assert list(failures) == [1]


def test_a_plain_mace_embeds_too(tmp_path):
    teacher = make({"mace": str(write_model(tmp_path / "plain.model", modules.MACE))}, device="cpu")
    neutral, ion = teacher.compute([charged({}), charged({"charge": 1})])
    assert neutral.energy_eV != pytest.approx(ion.energy_eV, abs=1e-3)
    assert ion.energies_eV.sum() == pytest.approx(ion.energy_eV, abs=1e-9)


def test_inputs_that_are_not_ours_to_give_are_found_when_the_model_is_loaded(tmp_path):
    field = {"external_field": {"type": "continuous", "per": "graph", "in_dim": 3, "emb_dim": 4}}
    path = write_model(tmp_path / "field.model", specs=BOTH | field)
    with pytest.raises(CalculatorError, match=r"field.model needs external_field as input, which ipip-mace does not"):
        make({"mace": str(path)}, device="cpu")
