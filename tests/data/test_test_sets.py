"""Test frames by named sets, each counting for the labels that it has; parts of files; 24 + 6 of 30 labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloy import assert_refused, cell, label, write_recipe
from ase import Atoms

from ipip_ext.check import labels
from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.data.dataset import Dataset, load_dataset
from ipip_ext.data.label_checks import check_labels
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe.data import Data, Ood
from ipip_ext.recipe.file import load_recipe
from ipip_ext.stages.evaluate import splits_of
from ipip_ext.stages.inputs import Exam
from ipip_ext.teachers import entries


def scan(n_frames: int = 5) -> list[Atoms]:
    """Frames with energies alone."""
    frames = [label(cell(300 + i, 0.15), start="s0") for i in range(n_frames)]
    for frame in frames:
        del frame.arrays[fr.FORCES]
    return frames


def loaded(folder: Path, test: object, **more: object) -> Dataset:
    given = {name: folder / path for name, path in test.items()} if isinstance(test, dict) else folder / str(test)
    data = Data(train=folder / "train.extxyz", test=given, valid_fraction=0.25, **more)
    return load_dataset(data, folder / "starts.extxyz", seed=3)


def ids(frames: list[Atoms]) -> list[str]:
    return [frame.info[fr.ID] for frame in frames]


def test_sets_stand_one_after_the_other_and_their_frames_say_of_which_they_are(task):
    fr.write_frames(task / "data/scan.extxyz", scan())
    found = loaded(task / "data", {"300K": "test.extxyz@:4", "scan": "scan.extxyz"})
    assert found.test_sets == [("test_300K", 4), ("test_scan", 5)]
    assert ids(found.test) == [f"test-300K-{i:05d}" for i in range(4)] + [f"test-scan-{i:05d}" for i in range(5)]
    assert {split: len(frames) for split, frames in found.tests.items()} == {"test_300K": 4, "test_scan": 5}
    assert found.findings == ("scan.extxyz: no frame has REF_forces; energies count alone.",)
    alone = loaded(task / "data", "test.extxyz")
    assert (alone.test_sets, list(alone.tests)) == ((), ["test"])
    assert ids(alone.test) == [f"test-{i:05d}" for i in range(6)]


def test_splits_are_all_then_by_start_then_by_set():
    frames = [cell(i) for i in range(5)]
    for frame, start in zip(frames, "aabba", strict=True):
        frame.info["start"] = start
    exam = Exam(Path("test.extxyz"), Ood(key="start", values=("b",)), 4, [("test_x", 3), ("test_y", 2)])
    assert splits_of(frames, exam) == {
        "test": [0, 1, 2, 3, 4], "test_id": [0, 1, 4], "test_ood": [2, 3], "test_x": [0, 1, 2], "test_y": [3, 4],
    }  # fmt: skip
    assert list(splits_of(frames, Exam(Path("test.extxyz"), None, 4))) == ["test"]


def test_a_frame_counts_for_the_labels_that_it_has():
    frames = [label(cell(i), frame_id=str(i)) for i in range(3)]
    said = [Prediction(f.info[fr.ENERGY] + 0.4 * (i + 1), f.arrays[fr.FORCES] + 0.1) for i, f in enumerate(frames)]
    whole = metrics.errors(frames, said)
    del frames[1].arrays[fr.FORCES], frames[2].info[fr.ENERGY]
    some = metrics.errors(frames, said)
    assert set(some) == set(whole)
    assert some["force_mae_meV_per_A"] == pytest.approx(100)
    assert some["energy_mae_meV_per_atom"] == pytest.approx(150)  # of 0.1 and 0.2 eV/atom
    sums = metrics.Residuals.of(frames, said).sums()
    assert np.isfinite(sums).all()
    assert sums[:, 2].tolist() == [12, 0, 12]
    assert sums[:, 5].tolist() == [1, 1, 0]
    assert not [key for key in metrics.errors(frames[1:2], said[1:2]) if key.startswith("force")]
    assert not [key for key in metrics.intervals(sums[1:2].repeat(3, axis=0), 0) if key.startswith("force")]


def test_labels_are_looked_at_where_they_are():
    frames = [label(cell(i), frame_id=str(i)) for i in range(14)]
    for frame in frames[10:]:
        del frame.arrays[fr.FORCES]
    assert check_labels(Path("test.extxyz"), frames) == []
    frames[12].info[fr.ENERGY] += 40
    (said,) = check_labels(Path("test.extxyz"), frames)
    assert said.startswith("test.extxyz: energies of frame 12 (12) stand out; the first is +9979 meV/atom")
    frames[3].arrays[fr.FORCES] *= 30
    assert "forces of frame 3 (3) stand out" in check_labels(Path("test.extxyz"), frames)[1]


def test_check_tells_of_each_set(task):
    fr.write_frames(task / "data/scan.extxyz", scan())
    write_recipe(task, Path("data"), data__test={"hot": "data/test.extxyz", "scan": "data/scan.extxyz"})
    recipe = load_recipe(Path("recipe.yaml"))
    data = load_dataset(recipe.data, recipe.explore.starts, recipe.seed)
    told = labels.check(recipe, data, entries.make(recipe.teacher, device="cpu", root=recipe.folder)).told
    assert list(told) == ["train", "valid", "test_hot", "test_scan", "on train", "on test_hot", "on test_scan"]
    assert "; no forces; nearest atoms" in told["test_scan"]
    assert told["on test_hot"].startswith("teacher: force MAE ")
    assert told["on test_scan"] == "teacher: no forces to compare on 5 frames"


def test_forces_under_another_name_are_no_set_without_forces(task, command):
    frames = fr.read_frames(task / "data/test.extxyz")
    for frame in frames:
        frame.arrays["dft_forces"] = frame.arrays.pop(fr.FORCES)
    fr.write_frames(task / "data/test.extxyz", frames)
    assert_refused(("test.extxyz: no frame has REF_forces", "per atom dft_forces"), command, "recipe.yaml")


def test_leaks_and_repeats_name_the_set_s_file(task):
    data = task / "data"
    frames = fr.read_frames(data / "train.extxyz")
    near = frames[5].copy()
    near.positions[0] += 0.004
    fr.write_frames(data / "near.extxyz", [label(near)])
    sets = {"300K": "test.extxyz", "leaky": "near.extxyz"}
    with pytest.raises(DataError, match=r"near duplicates of test frames of near\.extxyz: train-00005 .* test-leaky-"):
        loaded(data, sets)
    with pytest.raises(DataError, match=r"train\.extxyz@2: frame 0 \(test-leaky-00000\) also stands in .*train"):
        loaded(data, sets | {"leaky": "train.extxyz@2"})
    findings = loaded(data, {"all": "test.extxyz", "cold": "test.extxyz@::3"}).findings
    assert findings == (
        "data.test: 2 frames stand in more than one file (test-all-00000 = test-cold-00000, test-all-00003 ="
        " test-cold-00001). In test each counts as often.",
    )
    with pytest.raises(DataError, match=r"stands in data\.test more than once"):
        loaded(data, {"a": "test.extxyz", "b": "test.extxyz"})


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ({}, ("data.test: names no set",)),
        ({"ood": "a"}, ("data.test: ood is no name for a set", "test_ood")),
        ({"ID": "a"}, ("data.test: ID is no name for a set", "test_id")),
        ({"a b": "a"}, ("'a b' can't name a set", "letters, digits")),
        ({"": "a"}, ("'' can't name a set",)),
        ({"x" * 41: "a"}, ("can't name a set", "up to 40")),
        ({"hot": "a", "HOT": "b"}, ("hot names two sets",)),
        ({"hot": 3}, ("data.test", "must be a path")),
        ({"data/test.extxyz@2": None}, ("data/test.extxyz@2: must stand in quotes",)),
        ([1], ("data.test: must be a path",)),
    ],
)
def test_names_of_sets_are_checked(task, command, test, words):
    write_recipe(task, Path("data"), data__test=test)
    assert_refused(("recipe.yaml: ", *words), command, "recipe.yaml")


def test_a_set_has_not_the_name_of_a_force_field_s_split(task, command):
    field = {
        "kind": "conventional", "name": "lj", "pair_style": "lj/cut 5.0", "pair_coeff": ["* * 0.1 2.5"],
        "elements": ["Cu", "Al"],
    }  # fmt: skip
    write_recipe(task, Path("data"), data__test={"Al_Cu": "data/test.extxyz"}, baselines=[field])
    assert_refused(("data.test: Al_Cu is what the split of the baseline", "another name"), command, "recipe.yaml")


def test_numbers_name_sets_as_they_are_written(task):
    write_recipe(task, Path("data"), data__test={300: "data/test.extxyz"})
    recipe = load_recipe(Path("recipe.yaml"))
    assert recipe.data.tests == {"test_300": (task / "data/test.extxyz").resolve()}


def test_parts_of_files_are_read_wherever_frames_are(task):
    data, frames = task / "data", fr.read_frames(task / "data/train.extxyz")
    for name, wanted in (("", range(16)), ("@-1", [15]), ("@2:6", range(2, 6)), ("@::4", range(0, 16, 4))):
        found = fr.read_structures(data / f"train.extxyz{name}")
        assert [f.positions.tolist() for f in found] == [frames[i].positions.tolist() for i in wanted]
    fr.write_frames(data / "odd.extxyz", frames[:3])
    (data / "odd.extxyz").rename(data / "train@2.extxyz")  # which ASE by itself would take for an index
    assert len(fr.read_structures(data / "train@2.extxyz")) == 3
    assert len(fr.read_structures(data / "train@2.extxyz@1:")) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train.extxyz@16", ("train.extxyz@16: names none of its 16 structures", "a slice a:b:c")),
        ("train.extxyz@20:", ("train.extxyz@20:: names none of its 16",)),
        ("train.extxyz@4:4", ("names none of its 16",)),
        ("train.extxyz@first", ("no such file", "'first' is no index of train.extxyz")),
        ("gone.extxyz@3", ("gone.extxyz: no such file",)),
    ],
)
def test_an_index_that_picks_nothing_is_refused(task, command, name, words):
    write_recipe(task, Path("data"), data__train=f"data/{name}")
    assert_refused(words, command, "recipe.yaml")


def test_as_many_labels_as_are_said_train_and_validate(task):
    data = task / "data"
    found = {n: loaded(data, "test.extxyz", n_labels=n) for n in (8, 12, 16, None)}
    assert {n: (len(d.train), len(d.valid)) for n, d in found.items()} == {
        8: (6, 2), 12: (9, 3), 16: (12, 4), None: (12, 4)
    }  # fmt: skip
    used = {n: {*ids(d.train), *ids(d.valid)} for n, d in found.items()}
    assert used[8] < used[12] < used[16] == used[None]
    assert ids(found[16].train) == ids(found[None].train)
    with pytest.raises(DataError, match=r"data\.n_labels is 17, but 16 frames are there to train on and to validate"):
        loaded(data, "test.extxyz", n_labels=17)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data__n_train": 4}, ("data: n_labels and n_train would both say",)),
        ({"data__valid": "data/test.extxyz"}, ("data: n_labels counts validation frames too", "n_train instead")),
        ({"data__n_labels": 0}, ("data.n_labels", "greater than 0")),
    ],
)
def test_a_number_of_labels_stands_alone(task, command, change, words):
    write_recipe(task, Path("data"), **({"data__n_labels": 8} | change))
    assert_refused(("recipe.yaml: ", *words), command, "recipe.yaml")
