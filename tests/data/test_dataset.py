"""Splits partition, zeros fit, leaks and wrong units are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloy import cell, label
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import (
    energy_zeros,
    load_dataset,
)
from ipip_ext.data.disjoint import check_disjoint
from ipip_ext.data.metrics import fit_zeros
from ipip_ext.data.splits import split_valid, subset
from ipip_ext.errors import DataError
from ipip_ext.recipe.data import Data

HERE = Path("train.extxyz")


def task(**changes: object) -> Data:
    return Data(train=HERE, test=Path("test.extxyz"), **changes)


def bare(index: int, start: str) -> Atoms:
    return Atoms("Cu", info={"frame_id": str(index), "start": start})


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(st.sampled_from("abcd"), min_size=1, max_size=40),
    fraction=st.floats(0.05, 0.9),
    how=st.sampled_from(["random", "stratified", "grouped"]),
    seed=st.integers(0, 5),
)
def test_splits_partition(starts, fraction, how, seed):
    frames = [bare(i, start) for i, start in enumerate(starts)]
    data = task(valid_fraction=fraction, valid_split=how, split_keys=("start",))
    try:
        train, valid = split_valid(data, frames, seed)
    except DataError as error:
        assert "too few" in str(error)
        return
    ids = [frame.info["frame_id"] for frame in (*train, *valid)]
    assert sorted(ids, key=int) == [str(i) for i in range(len(frames))]
    assert train
    assert valid
    if how == "grouped":
        assert not {f.info["start"] for f in train} & {f.info["start"] for f in valid}


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(st.sampled_from("abcd"), min_size=2, max_size=40),
    how=st.sampled_from(["random", "stratified", "grouped"]),
    seed=st.integers(0, 5),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_fewer_training_frames_are_a_subset_of_more(starts, how, seed, sizes):
    frames = [bare(i, start) for i, start in enumerate(starts)]
    small, large = sorted(min(size, len(frames)) for size in sizes)
    few, many = (subset(task(n_train=n, valid_split=how, split_keys=("start",)), frames, seed) for n in (small, large))
    ids = [[int(frame.info["frame_id"]) for frame in chosen] for chosen in (few, many)]
    assert [len(chosen) for chosen in ids] == [small, large]
    assert set(ids[0]) <= set(ids[1])
    assert ids == [sorted(chosen) for chosen in ids]  # in the order of the file
    if how == "stratified":
        counts = {s: [f.info["start"] for f in many].count(s) for s in set(starts)}
        for start, count in counts.items():  # none has more than one above another that still had some to give
            assert count == starts.count(start) or count >= max(counts.values()) - 1


def test_validation_and_test_do_not_depend_on_n_train(alloy_data):
    files = {name: alloy_data / f"{name}.extxyz" for name in ("train", "test")}
    loaded = {
        n: load_dataset(Data(**files, valid_fraction=0.25, n_train=n), alloy_data / "starts.extxyz", seed=3)
        for n in (4, 8, 12, None)
    }
    ids = {n: [[f.info[fr.ID] for f in frames] for frames in (d.train, d.valid, d.test)] for n, d in loaded.items()}
    for n in (4, 8):
        assert ids[n][1:] == ids[None][1:]
        assert len(ids[n][0]) == n
    assert set(ids[4][0]) < set(ids[8][0]) < set(ids[None][0])
    assert ids[12] == ids[None]
    assert loaded[4].e0s_eV == energy_zeros(task(), loaded[4].train, [])
    assert loaded[4].e0s_eV != loaded[None].e0s_eV


def test_a_subset_that_can_not_be_is_refused(tmp_path, alloy_data):
    frames = fr.read_frames(alloy_data / "train.extxyz")
    for frame in frames[1:]:
        frame.symbols[:] = "Cu"
        frame.arrays[fr.FORCES] += 0.01
    fr.write_frames(tmp_path / "train.extxyz", frames)
    data = Data(train=tmp_path / "train.extxyz", test=tmp_path / "train.extxyz", valid=alloy_data / "test.extxyz")
    where = r"frame test-00000 holds Al, which the 3 frames that data\.n_train draws from .*train\.extxyz lack"
    with pytest.raises(DataError, match=where + r" \(Cu\); raise data\.n_train"):
        load_dataset(data.model_copy(update={"n_train": 3}), alloy_data / "starts.extxyz", seed=0)
    with pytest.raises(DataError, match=r"data\.n_train is 17, but 16 frames are there"):
        load_dataset(data.model_copy(update={"n_train": 17}), alloy_data / "starts.extxyz", seed=0)


def test_fitted_zeros_recover_what_was_put_in():
    frames = [label(cell(i)) for i in range(4)] + [label(Atoms("Cu4", positions=cell(1).positions, cell=cell(1).cell))]
    for frame in frames:
        frame.info[fr.ENERGY] = sum({"Cu": -2.0, "Al": 3.5}[s] for s in frame.get_chemical_symbols())
    zeros = energy_zeros(task(), frames, [])
    assert zeros == pytest.approx({"Cu": -2.0, "Al": 3.5})


def test_zeros_are_not_moved_by_frames_torn_to_pieces():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 8, (60, 2)).astype(float)
    energy = counts @ [-10.0, -4.0] + rng.normal(0, 0.02, 60) * counts.sum(axis=1)
    calm_zeros = fit_zeros(counts, energy)
    energy[:8] += rng.uniform(20, 60, 8)
    assert np.allclose(fit_zeros(counts, energy), calm_zeros, atol=0.03)
    assert not np.allclose(np.linalg.lstsq(counts, energy, rcond=None)[0], calm_zeros, atol=0.3)
    alike = np.repeat([[2.0, 4.0]], 9, axis=0)  # one composition leaves them open: the smallest are taken
    assert np.allclose(fit_zeros(alike, np.full(9, -36.0)), np.linalg.lstsq(alike, np.full(9, -36.0), rcond=None)[0])


def test_wild_frames_are_left_out_of_train_alone(tmp_path, alloy_data):
    frames = fr.read_structures(alloy_data / "train.extxyz")
    largest = sorted(float(np.linalg.norm(frame.arrays["REF_forces"], axis=1).max()) for frame in frames)
    data = Data(train=alloy_data / "train.extxyz", test=alloy_data / "test.extxyz")
    limited = data.model_copy(update={"max_force_eV_per_A": largest[-4] * 1.0001})
    loaded, whole = (load_dataset(d, alloy_data / "starts.extxyz", seed=0) for d in (limited, data))
    assert loaded.n_left_out == 3
    assert len(loaded.train) + len(loaded.valid) == len(frames) - 3
    assert (whole.n_left_out, len(loaded.test)) == (0, len(whole.test))
    kept = [np.linalg.norm(f.arrays[fr.FORCES], axis=1).max() for f in [*loaded.train, *loaded.valid]]
    assert max(kept) == pytest.approx(largest[-4])
    none = data.model_copy(update={"max_force_eV_per_A": 1e-9})
    with pytest.raises(DataError, match=r"every frame has a force above data\.max_force_eV_per_A"):
        load_dataset(none, alloy_data / "starts.extxyz", seed=0)


def test_given_and_isolated_zeros():
    frames, atom = [label(cell(0))], Atoms("Cu", info={fr.ENERGY: -1.5})
    assert energy_zeros(task(e0s={"Cu": 1.0, "Al": 2.0}), frames, []) == {"Al": 2.0, "Cu": 1.0}
    with pytest.raises(DataError, match="no energy for Al"):
        energy_zeros(task(e0s="isolated_atoms"), frames, [atom])
    with pytest.raises(DataError, match="no energy for Cu"):
        energy_zeros(task(e0s={"Al": 2.0}), frames, [])


def test_a_test_frame_in_train_is_named():
    train = [label(cell(i), frame_id=f"train-{i}") for i in range(3)]
    test = [label(cell(9), frame_id="test-0"), label(cell(2), frame_id="test-1")]
    with pytest.raises(DataError, match=r"test\.extxyz: frame 1 \(test-1\) also stands in train\.extxyz \(train-2\)"):
        check_disjoint(task(), train, train, [], {Path("test.extxyz"): test})


def test_labels_round_trip(tmp_path):
    frames = [label(cell(i)) for i in range(3)]
    frames[0].info[fr.STRESS] = np.arange(9.0).reshape(3, 3)
    fr.write_frames(tmp_path / "a.extxyz", frames)
    for before, after in zip(frames, fr.read_frames(tmp_path / "a.extxyz"), strict=True):
        assert after.info[fr.ENERGY] == before.info[fr.ENERGY]
        assert np.allclose(after.arrays[fr.FORCES], before.arrays[fr.FORCES], atol=1e-8)
        assert np.array_equal(after.info.get(fr.STRESS, 0), before.info.get(fr.STRESS, 0))
        assert after.info[fr.SOURCE] == "emt"


def test_plain_ase_labels_are_found(tmp_path):
    """ASE moves `energy` and `forces` of an extxyz into a calculator."""
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = cell(1)
    forces = np.full((4, 3), 0.5)
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=forces)
    atoms.write(tmp_path / "plain.extxyz")
    frame = fr.read_labelled(tmp_path / "plain.extxyz", fr.LabelKeys("energy", "forces"))[0]
    assert frame.info[fr.ENERGY] == -3.0
    assert np.array_equal(frame.arrays[fr.FORCES], forces)
    with pytest.raises(DataError, match="as plain labels energy, forces"):
        fr.read_labelled(tmp_path / "plain.extxyz")


def test_voigt_stress_becomes_a_matrix_and_slabs_are_refused(tmp_path):
    frame = label(cell(1))
    frame.info["s"] = np.array([1.0, 2, 3, 4, 5, 6])
    frame.write(tmp_path / "a.extxyz")
    read = fr.read_labelled(tmp_path / "a.extxyz", fr.LabelKeys(stress="s"))[0]
    assert np.array_equal(read.info[fr.STRESS], [[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    frame.pbc = (True, True, False)
    frame.write(tmp_path / "slab.extxyz")
    with pytest.raises(DataError, match="pbc"):
        fr.read_labelled(tmp_path / "slab.extxyz", fr.LabelKeys(stress="s"))
