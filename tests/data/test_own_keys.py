"""Names that only we write, in a user's file: they are kept under another, and decide nothing."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from alloy import cell, label

from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import load_dataset
from ipip_ext.data.keys import OWN, set_aside
from ipip_ext.errors import DataError
from ipip_ext.recipe.data import Data, Ood


def theirs(path, **info):
    """Write four labelled frames, each with its own of every value of `info`, and no name of ours."""
    frames = [label(cell(i)) for i in range(4)]
    for index, frame in enumerate(frames):
        del frame.info[fr.SOURCE]
        frame.info |= {key: values[index] for key, values in info.items()}
    ase.io.write(path, frames)
    return path


@pytest.mark.parametrize("ids", [["a"] * 4, [100, 101, 102, 103], [1.5, 1.5, "x", "x"], ["train-00001"] * 4])
def test_frames_are_named_by_their_place(tmp_path, ids):
    frames = fr.read_labelled(theirs(tmp_path / "a.extxyz", frame_id=ids), prefix="test-")
    assert [frame.info[fr.ID] for frame in frames] == [f"test-{i:05d}" for i in range(4)]
    assert [frame.info["file_frame_id"] for frame in frames] == ids
    fr.write_frames(tmp_path / "b.extxyz", frames)
    assert [f.info[fr.ID] for f in fr.read_frames(tmp_path / "b.extxyz")] == [f"test-{i:05d}" for i in range(4)]


def test_a_weight_a_source_and_a_stop_of_a_file_are_not_ours(tmp_path):
    path = theirs(tmp_path / "a.extxyz", label_weight=[-1.0, 0.0, "x", 9.0], label_source=["self:x"] * 4,
                  before_stop=["force"] * 4, MD_energy=[1.0] * 4)  # fmt: skip
    frames = fr.read_labelled(path)
    assert not any({fr.WEIGHT, "before_stop", "MD_energy"} & set(frame.info) for frame in frames)
    assert {frame.info[fr.SOURCE] for frame in frames} == {"reference"}
    assert [frame.info["file_label_weight"] for frame in frames] == [-1.0, 0.0, "x", 9.0]
    assert {key.removeprefix("file_") for key in set_aside(dict.fromkeys(OWN))} == set(OWN)


def test_labels_of_another_name_than_the_recipe_s_are_no_labels(tmp_path):
    path = theirs(tmp_path / "a.extxyz", dft=[1.0, 2.0, 3.0, 4.0], REF_stress=["none"] * 4)
    (frame, *_) = fr.read_labelled(path, fr.LabelKeys(energy="dft"))
    assert frame.info[fr.ENERGY] == 1.0
    assert fr.STRESS not in frame.info
    (frame, *_) = fr.read_labelled(path, fr.LabelKeys(energy="nothing"), whole=False)
    assert fr.ENERGY not in frame.info
    assert frame.arrays[fr.FORCES].shape == (4, 3)


def test_a_recipe_that_means_such_a_key_is_told_its_other_name(alloy_data):
    data = Data(
        train=alloy_data / "train.extxyz", test=alloy_data / "test.extxyz", ood=Ood(key="frame_id", values=["7"])
    )
    with pytest.raises(DataError, match=r"data\.ood\.key: frame_id is a name that ipip-mace gives.*file_frame_id"):
        load_dataset(data, alloy_data / "starts.extxyz", seed=0)
    data = data.model_copy(update={"ood": None, "split_keys": ("start", "before_stop"), "valid_split": "grouped"})
    with pytest.raises(DataError, match=r"data\.split_keys: before_stop .*file_before_stop"):
        load_dataset(data, alloy_data / "starts.extxyz", seed=0)


def test_ordinary_frames_are_what_they_were(tmp_path):
    """`label_source` was always replaced, where it stands."""
    sourced = fr.read_labelled(theirs(tmp_path / "b.extxyz", label_source=["emt"] * 4, start=["s0"] * 4))
    assert list(sourced[0].info) == [fr.ENERGY, fr.SOURCE, "start", fr.ID]
    (frame, *_) = fr.read_labelled(theirs(tmp_path / "a.extxyz", start=["s0"] * 4), prefix="train-")
    assert list(frame.info) == [fr.ENERGY, "start", fr.ID, fr.SOURCE]
    assert np.array_equal(frame.arrays[fr.FORCES], ase.io.read(tmp_path / "a.extxyz", 0).arrays[fr.FORCES])
