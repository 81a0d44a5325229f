"""Data: whatever is wrong is refused in one line that names file, place and remedy, before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from alloy import assert_refused, cell, label, write_recipe
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from spoilt import each, edit, swap

from ipip_ext.data import frames as fr

NAN, INF = float("nan"), float("inf")
FORCES = fr.FORCES


def drop(key: str) -> Callable[[Atoms], None]:
    def change(frame: Atoms) -> None:
        frame.info.pop(key, None)
        frame.arrays.pop(key, None)

    return change


def put(key: str, value: object, at: tuple[int, ...] | None = None) -> Callable[[Atoms], None]:
    def change(frame: Atoms) -> None:
        if at is not None:
            frame.arrays[key][at] = value
        else:
            frame.info[key] = value

    return change


def rename(old: str, new: str) -> Callable[[Atoms], None]:
    def change(frame: Atoms) -> None:
        holder = frame.info if old in frame.info else frame.arrays
        holder[new] = holder.pop(old)

    return change


def plain(frame: Atoms) -> None:
    frame.calc = SinglePointCalculator(frame, energy=frame.info.pop(fr.ENERGY), forces=frame.arrays.pop(FORCES))


def scale(key: str, factor: float) -> Callable[[Atoms], None]:
    def change(frame: Atoms) -> None:
        holder = frame.info if key in frame.info else frame.arrays
        holder[key] = holder[key] * factor

    return change


def flatten_forces(frame: Atoms) -> None:
    frame.arrays[FORCES] = frame.arrays[FORCES][:, :2]


def forces_in_comment(frame: Atoms) -> None:
    frame.info[FORCES] = frame.arrays.pop(FORCES).ravel()


def forces_as_text(frame: Atoms) -> None:
    frame.info[FORCES] = "see the other file"
    del frame.arrays[FORCES]


def no_volume(frame: Atoms) -> None:
    frame.cell[2] = 0.0


def dependent(frame: Atoms) -> None:
    frame.cell[2] = frame.cell[0] + frame.cell[1]


def touching(frame: Atoms) -> None:
    frame.positions[1] = frame.positions[0] + frame.cell[2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (each(drop(FORCES)), ("no frame has REF_forces", "Found: per frame", "REF_energy", "data.forces_key")),
        (each(drop(fr.ENERGY)), ("no frame has REF_energy", "per atom REF_forces", "data.energy_key")),
        (each(drop(FORCES), 3, 5), ("2 of 16 frames have no REF_forces", "first: frame 3")),
        (each(drop(fr.ENERGY), 4), ("1 of 16 frames have no REF_energy", "first: frame 4")),
        (each(rename(FORCES, "dft_forces")), ("no frame has REF_forces", "per atom dft_forces", "data.forces_key")),
        (each(put(fr.ENERGY, NAN), 2), ("frame 2", "energy: NaN or infinite", "take it out")),
        (each(put(fr.ENERGY, INF), 2), ("frame 2", "energy", "NaN or infinite")),
        (each(put(fr.ENERGY, "low"), 2), ("frame 2", "energy", "not numbers")),
        (each(put(FORCES, NAN, (1, 1)), 6), ("frame 6", "forces", "NaN or infinite")),
        (each(put(FORCES, INF, (1, 1)), 6), ("frame 6", "forces", "NaN or infinite")),
        (each(put("positions", NAN, (1, 1)), 6), ("frame 6", "atom 1 (", "position is not finite (y is nan)")),
        (each(flatten_forces), ("frame 0", "forces: shape (4, 2)", "(4, 3)")),
        (each(forces_in_comment), ("REF_forces stands in the comment line", "REF_forces:R:3")),
        (each(forces_as_text), ("REF_forces stands in the comment line", "REF_forces:R:3")),
        (each(scale(FORCES, 23.06)), ("eV/A", "kcal/mol/A", "Convert")),
        (each(scale(FORCES, 0.0194)), ("0.0194 times", "python:EMT", "hartree/bohr", "Convert")),
        (each(scale(FORCES, 1000.0)), ("eV/A", "meV/A", "Convert")),
        (each(scale(FORCES, 0.0)), ("forces are (nearly) zero", "were they written?")),
        (each(scale(fr.ENERGY, 1 / 27.2114)), ("energies", "0.0368 times", "hartree", "Convert")),
        (each(scale(fr.ENERGY, 23.06)), ("energies", "23.1 times", "kcal/mol", "Convert")),
        (each(no_volume), ("frame 0", "no volume", "Lattice")),
        (each(dependent, 2), ("frame 2", "no volume", "Lattice")),
        (each(touching, 7), ("frame train-00007", "atoms 0 and 1", "same place")),
        (lambda frames: frames[:1], ("1 frames are too few for valid_fraction", "data.valid")),
    ],
)  # fmt: skip
def test_unusable_training_frames(task, command, change, words):
    edit("data/train.extxyz", change)
    assert_refused(("data/train.extxyz: ", *words), command, "recipe.yaml")


@pytest.mark.parametrize("name", ["train", "test", "starts"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), ("no such file", "relative to the recipe")),
        (lambda path: path.write_bytes(b""), ("is empty",)),
        (lambda path: path.write_bytes(b"\n\n\n"), ("extended XYZ",)),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), ("extended XYZ",)),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), (": frame ", "save it again as extended XYZ")),
        (lambda path: path.write_bytes(b"0\n\n" + path.read_bytes()), ("frame 0", "no atoms")),
        (lambda path: (path.unlink(), path.mkdir()), ("is a folder",)),
    ],
    ids=["missing", "empty", "blank", "garbage", "truncated", "no-atoms", "folder"],
)
def test_a_file_that_holds_no_frames(task, command, name, change, words):
    change(Path(f"data/{name}.extxyz"))
    assert_refused((f"data/{name}.extxyz: ", *words), command, "recipe.yaml")


def test_plain_ase_labels_are_pointed_at(task, command):
    import ase.io

    frames = each(plain)(fr.read_frames(Path("data/train.extxyz")))
    ase.io.write("data/train.extxyz", frames)
    words = ("train.extxyz: ", "no frame has REF_energy", "as plain labels energy, forces", "data.energy_key")
    assert_refused(words, command, "recipe.yaml")


@pytest.mark.parametrize("name", ["test", "starts", "valid", "sample"])
def test_an_element_that_training_lacks(task, command, name):
    path = f"data/{name}.extxyz"
    if name in ("valid", "sample"):
        fr.write_frames(Path(path), [label(cell(50))])
    edit(path, each(lambda frame: swap(frame, "Al", "Ni"), 0))
    changes = {"valid": {"data__valid": path}, "sample": {"sample": {"starts": path}}}.get(name, {})
    write_recipe(task, Path("data"), **changes)
    assert_refused((path, "0 holds Ni", "train.extxyz lacks", "Al, Cu"), command, "recipe.yaml")


def same(frame: Atoms) -> None:
    pass


def moved(frame: Atoms) -> None:
    frame.positions[2] += frame.cell[0] - 2 * frame.cell[1]


def nudged(frame: Atoms) -> None:
    frame.positions += 1e-4 * np.random.default_rng(0).uniform(-0.5, 0.5, frame.positions.shape)


@pytest.mark.parametrize("change", [same, moved, nudged])
def test_a_test_frame_in_train_or_valid(task, command, change):
    frame = fr.read_frames(Path("data/test.extxyz"))[4]
    change(frame)
    fr.write_frames(Path("data/valid.extxyz"), [label(cell(60)), frame])
    write_recipe(task, Path("data"), data__valid="data/valid.extxyz")
    assert_refused(("test.extxyz: frame 4", "also stands in", "valid.extxyz", "take it out"), command, "recipe.yaml")

    write_recipe(task, Path("data"))
    edit("data/train.extxyz", lambda frames: [*frames, frame])
    assert_refused(("test.extxyz: frame 4", "also stands in", "train.extxyz", "take it out"), command, "recipe.yaml")


def test_a_validation_frame_in_train(task, command):
    shutil.copy("data/train.extxyz", "data/valid.extxyz")
    write_recipe(task, Path("data"), data__valid="data/valid.extxyz")
    assert_refused(("valid.extxyz: frame 0", "also stands in", "train.extxyz"), command, "recipe.yaml")


def test_other_units_in_test(task, command):
    edit("data/test.extxyz", each(scale(FORCES, 0.0194)))
    assert_refused(("test.extxyz: ", "forces", "0.0194 times", "Convert"), command, "recipe.yaml")
