"""Models and the other commands: what is wrong is refused in one line that names it, its place and its remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from alloy import assert_refused
from spoilt import RUN, cut_model, each, edit, swap, truncate

from ipip_ext import load_calculator
from ipip_ext.errors import ModelFileError


@pytest.mark.parametrize("path", ["runs/tiny", "runs/tiny/model"])
def test_a_damaged_model(finished, path):
    cut_model(RUN / "model")
    assert_refused(("student.safetensors: is corrupt", "again"), "evaluate", path, "data/test.extxyz")
    with pytest.raises(ModelFileError, match=r"student\.safetensors: is corrupt"):
        load_calculator(path)
    (RUN / "model/student.json").write_text('{"backend": "mace"}')
    assert_refused(("student.json: is corrupt", "again"), "evaluate", path, "data/test.extxyz")
    (RUN / "model/student.json").write_text("[]")
    assert_refused(("student.json: is corrupt", "again"), "evaluate", path, "data/test.extxyz")
    (RUN / "model/student.json").unlink()
    with pytest.raises(ModelFileError, match=r"no finished model yet|holds no student\.json"):
        load_calculator(path)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nowhere", ("nowhere: no such file or folder", "run folder")),
        ("runs/nowhere", ("runs/nowhere: no such file or folder", "run folder")),
        ("nowhere.model", ("nowhere.model: no such file or folder", ".model file")),
        ("[1, 2]", ("[1, 2]: no such file or folder",)),
        ("7", ("7: no such file or folder",)),
        ("{chgnett: 1}", ("chgnett", "Did you mean chgnet?")),
        ("data", ("data: holds no student.json", "run folder")),
        ("data/test.extxyz", ("test.extxyz: can't be read as a model", "MACE saved")),
        ("no.model", ("no.model: can't be read as a model", "MACE saved")),
        ("cut.model", ("cut.model: can't be read as a model", "MACE saved")),
    ],
)
def test_evaluate_what_is_no_model(finished, model, words):
    Path("no.model").write_bytes(b"")
    shutil.copy(RUN / "model/student.model", "cut.model")
    truncate(Path("cut.model"))
    assert_refused(words, "evaluate", model, "data/test.extxyz")


def test_evaluate_on_no_labels(finished):
    assert_refused(("starts.extxyz: no frame has REF_energy",), "evaluate", RUN, "data/starts.extxyz")
    assert_refused(("nowhere.xyz: no such file",), "evaluate", RUN, "nowhere.xyz")
    assert_refused(("device: tpu",), "evaluate", RUN, "data/test.extxyz", "--device", "tpu")
    edit("data/test.extxyz", each(lambda frame: swap(frame, "Al", "Ni")))
    assert_refused(("does not know Ni", "Al, Cu"), "evaluate", RUN, "data/test.extxyz")


def test_init_keeps_what_is_there(here):
    Path("mine.yaml").write_text("precious")
    assert_refused(("mine.yaml: is there already", "another file"), "init", "mine.yaml")
    assert_refused(("nowhere/mine.yaml: its folder does not exist",), "init", "nowhere/mine.yaml")


def test_ui_without_a_store(here):
    assert_refused(("mlflow.db is not there", "run a recipe first"), "ui")
