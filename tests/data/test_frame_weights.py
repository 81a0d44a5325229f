"""MACE's weights of frames and of their labels: what they are in a file, and what they do to all that is fitted."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
import torch
from alloy import assert_refused, cell, label, tiny_recipe
from ase import Atoms
from corrections import TEACHER, alloys, correction, references
from tiny_mace import TINY

from ipip_ext import Recipe
from ipip_ext.backends.conformance.task import E0S_EV
from ipip_ext.backends.loss import Totals, huber_loss
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.backends.mace.network import MaceNetwork
from ipip_ext.backends.mace.run_train.process import _plain
from ipip_ext.backends.samples import Sample, labels_of
from ipip_ext.check import preflight
from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import load_dataset
from ipip_ext.data.metrics import fit_zeros
from ipip_ext.data.weights import counted
from ipip_ext.recipe.data import Data
from ipip_ext.recipe.labels import Correction
from ipip_ext.recipe.training import Fit
from ipip_ext.teachers.correction.fit import fit

N_BAD, N = 7, 14


def frames_of(first: int, last: int, *, bad: bool, **info: object) -> list:
    """Return labelled cells; bad ones have energies 3 eV up and forces turned round."""
    frames = [label(cell(i)) for i in range(first, last)]
    for frame in frames:
        frame.info |= info
        if bad:
            frame.info[fr.ENERGY] += 3.0
            frame.arrays[fr.FORCES] *= -1
    return frames


@pytest.fixture
def data(tmp_path, alloy_data) -> Data:
    """Train has seven bad frames of weight 0 and seven good ones."""
    bad = frames_of(0, N_BAD, bad=True, config_weight=0.0)
    good = frames_of(N_BAD, N, bad=False, config_weight=1.0)
    ase.io.write(tmp_path / "train.extxyz", [*bad, *good])
    ase.io.write(tmp_path / "good.extxyz", good)
    return Data(train=tmp_path / "train.extxyz", test=alloy_data / "test.extxyz", valid_fraction=0.3)


def test_frames_of_weight_0_are_left_out_aloud(data, alloy_data):
    starts = alloy_data / "starts.extxyz"
    loaded = load_dataset(data, starts, seed=0)
    good = load_dataset(data.model_copy(update={"train": data.train.with_name("good.extxyz")}), starts, seed=0)
    assert loaded.e0s_eV == good.e0s_eV
    for some, others in ((loaded.train, good.train), (loaded.valid, good.valid)):
        assert [f.info[fr.ENERGY] for f in some] == [f.info[fr.ENERGY] for f in others]
    assert len(loaded.train) + len(loaded.valid) == N - N_BAD
    assert [said for said in loaded.findings if "weight" in said] == [
        "train.extxyz: 7 of 14 training frames have config_weight 0 and are left out."
    ]
    assert not [said for said in good.findings if "weight" in said]


def test_isolated_atoms_give_zeros_whatever_their_weight(data, alloy_data):
    """As in MACE, where one keeps them out of losses by it."""
    frames = ase.io.read(data.train, ":")
    zeros = {"Cu": -3.5, "Al": -2.5}
    atoms = [Atoms(symbol, info={fr.ENERGY: zero, "config_weight": 0.0}) for symbol, zero in zeros.items()]
    ase.io.write(data.train, [*atoms, *frames])
    loaded = load_dataset(data.model_copy(update={"e0s": "isolated_atoms"}), alloy_data / "starts.extxyz", seed=0)
    assert loaded.e0s_eV == zeros
    assert "train.extxyz: 7 of 14 training frames have config_weight 0 and are left out." in loaded.findings


@pytest.mark.parametrize(
    "key", ["config_weight", "config_energy_weight", "config_forces_weight", "config_stress_weight"]
)
@pytest.mark.parametrize(
    ("value", "said"), [(-1.0, "-1.0"), (np.inf, "inf"), (np.nan, "nan"), ("half", "'half'"), (np.arange(2), "array")]
)
def test_a_weight_that_can_t_be_is_refused(task, key, value, said):
    frames = fr.read_structures(task / "data/train.extxyz")
    frames[3].info[key] = value
    ase.io.write(task / "data/train.extxyz", frames)
    assert_refused(
        ("data/train.extxyz: frame train-00003: ", f"{key} is ", said, "finite number"), "run", "recipe.yaml"
    )


@pytest.mark.parametrize(
    ("split", "key", "what"),
    [
        ("train", "config_weight", "energy"),
        ("train", "config_forces_weight", "forces"),
        ("valid", "config_weight", "energy"),
    ],
)
def test_weights_that_are_all_0_are_refused(task, command, split, key, what):
    frames = (
        [label(cell(300 + i)) for i in range(4)] if split == "valid" else fr.read_structures(task / "data/train.extxyz")
    )
    for frame in frames:
        frame.info[key] = 0
    ase.io.write(task / f"data/{split}.extxyz", frames)
    more = ("--set", "data.valid=data/valid.extxyz") if split == "valid" else ()
    assert_refused(
        (f"data/{split}.extxyz: {key} is 0 in frame {split}-00000", f"no other frame's {what} counts"),
        command,
        "recipe.yaml",
        *more,
    )


def test_a_run_says_so_before_it_begins(data, alloy_data):
    recipe = Recipe(**tiny_recipe(alloy_data, data__train=str(data.train)))
    found, _ = preflight.check(recipe)
    assert [said for said in preflight.findings_of((found, None)) if "config_weight" in said] == [
        "train.extxyz: 7 of 14 training frames have config_weight 0 and are left out."
    ]


def test_other_weights_are_told_and_virials_have_theirs(tmp_path, alloy_data):
    frames = frames_of(0, 8, bad=False)
    for index, frame in enumerate(frames):
        frame.info |= {
            "config_weight": 0.5 + index,
            "config_energy_weight": float(index > 0),
            "config_virials_weight": 3.0,
        }
        frame.info["virials"] = np.eye(3)
    ase.io.write(tmp_path / "train.extxyz", frames)
    test = [label(cell(90 + i)) for i in range(3)]
    for frame in test:
        frame.info["virials"] = np.eye(3)
    ase.io.write(tmp_path / "test.extxyz", test)
    task = Data(
        train=tmp_path / "train.extxyz", test=tmp_path / "test.extxyz", virials_key="virials", valid_fraction=0.3
    )
    loaded = load_dataset(task, alloy_data / "starts.extxyz", seed=0)
    assert [said for said in loaded.findings if "weight" in said] == [
        "train.extxyz: config_weight of training frames is 0.5 to 7.5; losses and fits obey it.",
        "train.extxyz: 1 of 8 training frames have config_energy_weight 0.",
        "train.extxyz: config_stress_weight of training frames is 3 to 3; losses and fits obey it.",
    ]


def test_labels_count_in_the_loss_by_the_product_of_all_weights():
    model = MaceBackend().build(TINY, E0S_EV, [label(cell(i)) for i in range(2)], seed=1)
    network = MaceNetwork(model, "cpu")
    frame = label(cell(0), config_weight=0.5, config_energy_weight=3.0, config_forces_weight=0.25, label_weight=4.0)
    frame.info[fr.STRESS] = np.eye(3)
    samples = [Sample.of(frame, network, weight=2.0), Sample.of(label(cell(1)), network)]
    labels = labels_of(samples, torch.float64, "cpu", stress=True)
    assert labels.atom_weight.ravel().tolist() == [1.0] * 4 + [1.0] * 4
    assert labels.energy_weight.tolist() == [12.0, 1.0]
    assert labels.stress_weight.tolist() == [4.0, 0.0]


def test_a_label_of_weight_0_is_in_no_loss_and_no_error():
    model = MaceBackend().build(TINY, E0S_EV, [label(cell(i)) for i in range(2)], seed=1)
    network, settings = MaceNetwork(model, "cpu"), Fit(energy_weight=1.0)
    good, bad = label(cell(0)), label(cell(1), config_energy_weight=0.0, config_forces_weight=0)
    found = []
    for offset in (0.0, 50.0):
        bad.info[fr.ENERGY] += offset
        bad.arrays[fr.FORCES] = bad.arrays[fr.FORCES] + offset
        samples = [Sample.of(frame, network) for frame in (good, bad)]
        labels = labels_of(samples, network.dtype, "cpu", stress=False)
        output = network.evaluate([s.graph for s in samples], training=False, stress=False)
        totals = Totals()
        totals.add(output, labels, settings)
        found.append((float(huber_loss(output, labels, settings).detach()), totals.metrics()))
    assert found[0] == found[1]
    alone = labels_of(samples[:1], network.dtype, "cpu", stress=False)
    output = network.evaluate([samples[0].graph], training=False, stress=False)
    totals = Totals()
    totals.add(output, alone, settings)
    for key in ("force_mae_meV_per_A", "energy_mae_meV_per_atom"):
        assert found[0][1][key] == pytest.approx(totals.metrics()[key], rel=1e-5)


def test_energy_zeros_obey_weights():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 8, (20, 2)).astype(float)
    energy = counts @ [-10.0, -4.0] + rng.normal(0, 0.02, 20) * counts.sum(axis=1)
    plain = fit_zeros(counts, energy)
    assert np.allclose(fit_zeros(counts, energy, np.full(20, 3.0)), plain, rtol=1e-9)
    spoilt, weights = energy.copy(), np.ones(20)
    spoilt[:9] += 100.0
    weights[:9] = 0
    assert np.array_equal(fit_zeros(counts, spoilt, weights), fit_zeros(counts[9:], energy[9:]))
    heavy = np.where(np.arange(20) < 10, 1e6, 1.0)
    exact = counts[:10] @ [-10.0, -4.0]
    assert np.allclose(fit_zeros(counts, np.concatenate([exact, energy[10:]]), heavy), [-10.0, -4.0], atol=1e-4)


def test_a_student_s_zeros_and_scale_obey_weights():
    backend = MaceBackend()
    frames = frames_of(0, 6, bad=False)
    bad = frames_of(6, 9, bad=True, config_energy_weight=0.0, config_forces_weight=0.0)
    for frame in bad:
        frame.arrays[fr.FORCES] = frame.arrays[fr.FORCES] * 100
    model = backend.build(TINY, E0S_EV, frames, seed=0)
    assert (
        backend.build(TINY, E0S_EV, [*frames, *bad], seed=0).spec.force_scale_eV_per_A
        == model.spec.force_scale_eV_per_A
    )
    with_bad, without = (backend.align_energies(model, some, "cpu").spec.e0s_eV for some in ([*frames, *bad], frames))
    assert with_bad == pytest.approx(without, rel=1e-6)
    assert counted([*frames, *bad], "forces") == frames
    assert counted(bad, "forces") == bad


def test_a_correction_obeys_weights():
    settings = Correction(form="pair", ridge=1.0, damping=None)
    truth = references(correction("pair", seed=1), alloys()[:4])
    said = TEACHER.compute(truth)

    def fitted(rows: list[int], **weights: list[float]):
        some = [truth[i].copy() for i in rows]
        for key, values in weights.items():
            for frame, value in zip(some, values, strict=True):
                frame.info[key] = value
        return fit(some, [said[i] for i in rows], settings, fr.elements(truth))[0].coefficients

    def same(one, other):
        return all(np.allclose(one[key], other[key], rtol=1e-6, atol=1e-9) for key in one | other)

    assert same(fitted([0, 1, 2, 3], config_forces_weight=[0, 1, 1, 1]), fitted([1, 2, 3]))
    assert not same(fitted([0, 1, 2, 3]), fitted([0, 1, 2, 3], config_weight=[9, 1, 1, 1]))


def test_mace_s_own_program_gets_them():
    frame = label(cell(0), config_weight=0.5, config_forces_weight=0.0, config_type="bulk", label_weight=3.0)
    plain = _plain(frame, {13: 0.0, 29: 0.0}, 4.0)
    assert {key: value for key, value in plain.info.items() if "config" in key} == {
        "config_weight": 0.5, "config_forces_weight": 0.0,
    }  # fmt: skip
    assert "label_weight" not in plain.info
