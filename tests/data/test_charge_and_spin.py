"""Charge and spin are a part of a frame: from a file to the pool, in comparisons, and one charge a recipe."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from alloy import cell, label
from ase.calculators.emt import EMT

from ipip_ext import load_recipe
from ipip_ext.check import preflight
from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import load_dataset
from ipip_ext.data.label_noise import check_noise
from ipip_ext.data.leakage import Known, copies
from ipip_ext.data.states import told
from ipip_ext.errors import DataError
from ipip_ext.potentials.charge import charge_of, spin_of
from ipip_ext.recipe.data import Data
from ipip_ext.recipe.walk import Explore
from ipip_ext.run.events import EventBus
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.explore import explore
from ipip_ext.stages.prepare import prepare
from ipip_ext.teachers.ase_potential import AsePotential


class Charged(EMT):
    """EMT whose energy is higher by what a charge and a spin cost."""

    def calculate(self, atoms=None, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        self.results["energy"] += 10 * charge_of(atoms) + spin_of(atoms) - 1


def write(folder, *, train: list[dict], test: dict, starts: dict) -> Data:
    ase.io.write(folder / "train.extxyz", [label(cell(i), **info) for i, info in enumerate(train)])
    ase.io.write(folder / "test.extxyz", [label(cell(100 + i), **test) for i in range(3)])
    begin = [cell(200, 0.02), cell(201, 0.02)]
    for atoms in begin:
        atoms.info |= starts
    ase.io.write(folder / "starts.extxyz", begin)
    return Data(train=folder / "train.extxyz", test=folder / "test.extxyz", valid_fraction=0.25)


def load(data: Data):
    return load_dataset(data, data.train.with_name("starts.extxyz"), seed=0)


def prepared(data: Data, folder):
    starts = data.train.with_name("starts.extxyz")
    work = Workspace(folder, EventBus([]))
    return work, work.do(prepare, data, train=data.train, test=data.test, valid=None, starts=starts, split_seed=0)


@pytest.mark.parametrize("key", ["charge", "total_charge", "q"])
def test_they_travel_from_files_to_the_pool(tmp_path, key):
    state = {key: 1, "mult": 3}
    data = write(tmp_path, train=[state] * 8, test=state, starts=state)
    data = data.model_copy(update={"spin_key": "mult", "charge_key": "q" if key == "q" else None})
    work, done = prepared(data, tmp_path / "run")
    for name in ("train", "valid", "test", "starts"):
        assert {(charge_of(f), spin_of(f)) for f in fr.read_frames(getattr(done, name))} == {(1.0, 3.0)}
    walk = Explore(starts=done.starts, temperatures_K=(300,), n_steps=4, frame_every=2)
    entry = {"python": "test_charge_and_spin:Charged"}
    pool = fr.read_frames(work.do(explore, walk, teacher=entry, starts=done.starts).frames)
    assert {(charge_of(f), spin_of(f)) for f in pool} == {(1.0, 3.0)}
    for frame in pool:
        plain = AsePotential(EMT(), "emt").compute([frame])[0].energy_eV
        assert frame.info[fr.ENERGY] == pytest.approx(plain + 12)
        again = fr.labelled(frame, AsePotential(Charged(), "charged").compute([frame])[0], "reference:charged")
        assert again.info[fr.ENERGY] == pytest.approx(plain + 12)
    assert told(pool).startswith("charge +1 in every frame, spin multiplicity 3")


def test_a_recipe_s_key_wins_over_the_usual_ones(tmp_path):
    state = {"charge": 7, "total_charge": 6, "q": 2}
    data = write(tmp_path, train=[state] * 8, test=state, starts=state).model_copy(update={"charge_key": "q"})
    assert {charge_of(frame) for frame in load(data).train} == {2.0}
    with pytest.raises(DataError, match=r"no frame has Q, which data\.charge_key names"):
        load(data.model_copy(update={"charge_key": "Q"}))


@pytest.mark.parametrize(
    ("train", "test", "starts", "words"),
    [
        ([{"charge": 0}] * 4 + [{"charge": 1}] * 4, {}, {}, r"n\.extxyz: frame train-00004 has charge 1, .*n-00000"),
        ([{"charge": 1}] * 8, {"charge": 1}, {}, r"starts\.extxyz: frame 0 has charge 0, .*train-00000 has 1"),
        ([{"total_charge": -1}] * 8, {"charge": 0}, {"charge": -1}, r"test\.extxyz: frame test-00000 has charge 0"),
    ],
)  # fmt: skip
def test_charges_that_differ_are_refused_with_the_way_out(tmp_path, train, test, starts, words):
    data = write(tmp_path, train=train, test=test, starts=starts)
    with pytest.raises(DataError, match=words + r".*one recipe has one charge"):
        load(data)


@pytest.mark.parametrize(("key", "value"), [("charge", "neutral"), ("spin", [1, 2])])
def test_what_is_no_number_is_refused_by_name(tmp_path, key, value):
    data = write(tmp_path, train=[{}] * 8, test={}, starts={})
    frames = fr.read_structures(data.train)
    frames[5].info[key] = value
    ase.io.write(data.train, frames)
    with pytest.raises(DataError, match=rf"train\.extxyz: frame train-00005: {key} = .* is no "):
        load(data)


def test_one_charge_is_fine_and_told(tmp_path):
    data = write(tmp_path, train=[{"charge": -1.0000001}] * 8, test={"charge": -1}, starts={"total_charge": -1})
    loaded = load(data)
    assert told([*loaded.train, *loaded.starts]).startswith("charge -1 in every frame; teachers")
    assert told([cell(0)]) == ""
    assert told([label(cell(i), spin=1 + i) for i in range(7)]).startswith("spin multiplicity 1 to 7; teachers")
    assert not [said for said in loaded.findings if "spin" in said]


def test_spins_of_one_composition_are_told(tmp_path):
    data = write(tmp_path, train=[{"spin": 1 + 2 * (i == 4)} for i in range(8)], test={}, starts={})
    assert [said for said in load(data).findings if "spins" in said] == [
        "train.extxyz: frames of AlCu3 have several spins (1, 3; 1 where none is given). A student has no input for"
        " spin, and learns their mean."
    ]


def test_frames_of_other_charge_or_spin_are_other_frames(tmp_path):
    frames = [label(cell(0), **state) for state in ({}, {"charge": 0, "spin": 1}, {"charge": 1}, {"total_spin": 3})]
    assert copies(frames) == [[0, 1]]
    turned = frames[2].copy()
    turned.rotate(90, "z", rotate_cell=True)
    assert [(t.frame, t.known) for t in Known(frames).twins_in([turned])] == [(0, 2)]
    assert not Known([frames[0]]).twins_in([frames[3], turned])
    frames[2].info[fr.ENERGY] += 40.0
    assert not list(check_noise(tmp_path / "a.extxyz", frames, copies(frames)))
    frames[1].info[fr.ENERGY] += 40.0
    with pytest.raises(DataError, match=r"data\.charge_key, data\.spin_key"):
        list(check_noise(tmp_path / "a.extxyz", frames, copies(frames)))


def test_other_starts_must_have_the_same(task):
    starts = fr.read_structures(task / "data/starts.extxyz")
    starts[1].info["charge"] = 2
    ase.io.write(task / "data/own.extxyz", starts)
    recipe = load_recipe("recipe.yaml", "sample={starts: data/own.extxyz, n_steps: 20}")
    with pytest.raises(DataError, match=r"own\.extxyz: frame 1 has charge 2, .*train\.extxyz 0; .*charge=0 "):
        preflight.check_data(recipe)


@pytest.mark.parametrize(("key", "renamed"), [(None, False), ("q", True)])
def test_students_walk_from_starts_whose_charge_was_read(task, key, renamed):
    sets = ["sample={n_steps: 20}"] + ([] if key is None else [f"data.charge_key={key}"])
    recipe = load_recipe("recipe.yaml", *sets)
    prepared = Path("prepare/starts.extxyz")
    assert recipe.starts_of_students(prepared) == (prepared if renamed else recipe.explore.starts)
