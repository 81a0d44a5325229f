"""Labels held against each other: what can't be is refused, what stands out is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloy import cell, label
from ase import Atoms
from ase.build import bulk, molecule

from ipip_ext.data import frames as fr
from ipip_ext.data.label_checks import check_labels
from ipip_ext.data.label_noise import check_noise
from ipip_ext.data.label_summary import summary
from ipip_ext.data.leakage import copies
from ipip_ext.errors import DataError

HERE = Path("some/train.extxyz")


def alloy(n_frames: int = 20) -> list[Atoms]:
    return [label(cell(i), frame_id=f"f{i}") for i in range(n_frames)]


def test_ordinary_labels_pass():
    assert check_labels(HERE, alloy()) == []
    assert check_labels(HERE, alloy(1)) == []


@pytest.mark.parametrize("factor", [1000.0, 0.0])
def test_forces_of_impossible_size_are_refused(factor):
    frames = alloy(3)
    for frame in frames:
        frame.arrays[fr.FORCES] *= factor
    with pytest.raises(DataError, match=r"some/train\.extxyz.*force"):
        check_labels(HERE, frames)


def test_energies_of_impossible_spread_are_refused():
    frames = alloy(4)
    for index, frame in enumerate(frames):
        frame.info[fr.ENERGY] = 1000.0 * index
    with pytest.raises(DataError, match="energies per atom scatter"):
        check_labels(HERE, frames)


@pytest.mark.parametrize("energy_eV", [0.0, -3.0])
def test_energies_that_are_all_equal_are_refused(energy_eV):
    frames = alloy()
    for frame in frames:
        frame.info[fr.ENERGY] = energy_eV
    with pytest.raises(DataError, match=rf"all energies are equal \({energy_eV:g} eV\); were they written"):
        check_labels(HERE, frames)
    assert check_labels(HERE, [frames[0]] * 3) == []  # of one structure they are


def test_one_label_that_can_not_be_is_named():
    frames = alloy()
    frames[5].info[fr.ENERGY] = 1e6
    with pytest.raises(DataError, match=r"frame 5 \(f5\): its energy is \+2\.5e\+05 eV/atom .* or take it out\."):
        check_labels(HERE, frames)
    frames = alloy()
    for index, factor in ((3, 1e3), (7, 1e5)):
        frames[index].arrays[fr.FORCES] *= factor
    with pytest.raises(DataError, match=r"frame 7 \(f7\): its mean force component is .* out; so is 1 more\."):
        check_labels(HERE, frames)


def test_what_stands_out_is_named():
    frames = alloy()
    frames[5].info[fr.ENERGY] += 4 * 10.0
    frames[8].arrays[fr.FORCES][2, 1] = 300.0
    energies, forces = check_labels(HERE, frames)
    assert energies.startswith("train.extxyz: energies of frame 5 (f5) stand out; the first is +")
    assert forces.startswith("train.extxyz: forces of frame 8 (f8) stand out; the largest of the first is 300 eV/A")


def test_a_few_hot_frames_do_not_stand_out():
    hot = [label(cell(50 + i, 0.2)) for i in range(4)]
    assert check_labels(HERE, [*alloy(), *hot]) == []


@pytest.mark.parametrize(
    ("factor", "words"), [(1 / 0.529177, "in bohr"), (0.1, "in nm"), (1.0, None), (1.15, None), (0.85, None)]
)
def test_positions_in_another_unit(factor, words):
    frames = alloy()
    for frame in frames:
        frame.set_cell(frame.cell * factor, scale_atoms=True)
    if words is None:
        check_labels(HERE, frames)
        return
    with pytest.raises(DataError, match=f"nearest atoms .* A apart, .* times a bond; are positions .*{words}"):
        check_labels(HERE, frames)


@pytest.mark.parametrize("atoms", [molecule("H2"), bulk("Cs"), bulk("Ar", "fcc", a=5.3), molecule("LiF")])
def test_weak_and_short_bonds_are_bonds(atoms):
    frames = [atoms.copy() for _ in range(3)]
    for index, frame in enumerate(frames):
        frame.positions[-1] += 0.02 * index
        frame.info[fr.ENERGY], frame.arrays[fr.FORCES] = -1.0 - index, np.full((len(frame), 3), 0.3)
    check_labels(HERE, frames)


def test_the_noise_of_labels_is_told_and_refused_beyond_a_limit():
    frames = alloy(6)
    twin = frames[2].copy()
    twin.info[fr.ENERGY] += 4 * 0.002
    twin.arrays[fr.FORCES][1] += [0.03, 0.0, 0.0]
    frames.append(twin)
    (said,) = check_noise(HERE, frames, copies(frames))
    assert said.startswith("train.extxyz: labels of equal structures differ by up to 2 meV/atom and 30 meV/A")
    turned = label(Atoms(twin.numbers, positions=-twin.positions, cell=-twin.cell.array, pbc=True))
    assert list(check_noise(HERE, [frames[2], turned], copies([frames[2], turned]))) == []  # of equal labels
    turned.info[fr.ENERGY] += 4 * 0.003
    (said,) = check_noise(HERE, [frames[2], turned], copies([frames[2], turned]))
    assert "up to 3 meV/atom" in said
    twin.arrays[fr.FORCES] *= -1
    with pytest.raises(DataError, match=r"frame 2 \(f2\) and frame 6 \(f2\) are one structure, but their labels"):
        list(check_noise(HERE, frames, copies(frames)))
    twin.arrays[fr.FORCES] *= -1
    twin.info[fr.ENERGY] += 40.0
    with pytest.raises(DataError, match=r"are 10002 meV/atom and 30 meV/A apart"):
        list(check_noise(HERE, frames, copies(frames)))
    assert list(check_noise(HERE, alloy(3), [])) == []


def test_nothing_is_said_of_labels_that_are_equal():
    frames = alloy(3)
    frames.append(frames[1].copy())
    frames[3].info[fr.ENERGY] += 1e-9
    assert list(check_noise(HERE, frames, copies(frames))) == []


def test_the_summary_names_the_frames_of_extremes():
    frames = alloy()
    frames[7].arrays[fr.FORCES][0] = [0.0, 30.0, 40.0]
    frames[3].positions[1] = frames[3].positions[0] + [1.5, 0.0, 0.0]
    said = summary(frames)
    assert "|F| up to 50 eV/A (f7)" in said
    assert "nearest atoms 1.50 A (f3)" in said
    energies = sorted(frame.info[fr.ENERGY] / 4 for frame in frames)
    assert f"energies {energies[0]:.3f} to {energies[-1]:.3f} eV/atom" in said
