"""Run folders: what is wrong is refused in one line that names it, its place and its remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from alloy import assert_refused
from click.testing import CliRunner
from spoilt import RUN, cut_model, edit, truncate

from ipip_ext.cli.main import main


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("finetune.lr=0.004", ("finetune.lr is 0.006 there and 0.004 here", "--redo finetune")),
        ("seed=4", ("seed is 3 there and 4 here", "--redo prepare")),
        ("student.hidden_irreps=8x0e", ("student.hidden_irreps is '4x0e+4x1o' there and '8x0e' here",)),
        ("data.e0s={Cu: 0.0, Al: 0.0}", ("data.e0s", "'fitted'")),
        ("teacher={python: 'ase.calculators.lj:LennardJones'}", ("teacher.python", "EMT", "LennardJones")),
        ("forget.keep=0.5", ("forget.keep is 0.0 there and 0.5 here",)),
        ("baselines=[{kind: scratch, fit: {epochs: 5}}]", ("epochs = 3, now it is 5", "baseline-scratch/scratch")),
        ("forget.groups=[readout]", ("forget.groups",)),
    ],
)
def test_another_recipe(finished, override, words):
    assert_refused(words, "run", "recipe.yaml", "--set", override)


@pytest.mark.parametrize("name", ["train", "starts"])
def test_other_data(finished, name):
    edit(f"data/{name}.extxyz", lambda frames: frames[:-1])
    assert_refused(("runs/tiny/prepare", f"inputs.{name}", "another name", "--redo prepare"), "run", "recipe.yaml")


@pytest.mark.parametrize("name", ["train", "test", "starts"])
def test_data_that_are_gone(finished, name):
    Path(f"data/{name}.extxyz").unlink()
    assert_refused((f"{name}.extxyz", "can't be read", "put it back"), "run", "recipe.yaml")


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        ("iter-00/sample/stage.json", lambda path: path.write_text(""), ("is corrupt", "--redo iter-00/sample")),
        ("iter-00/sample/stage.json", truncate, ("is corrupt", "--redo iter-00/sample")),
        ("iter-00/sample/stage.json", lambda path: path.write_text('{"a": 1}'), ("is corrupt", "--redo")),
        ("iter-00/sample/stage.json", lambda path: path.write_text("[1, 2]"), ("is corrupt", "--redo")),
        ("iter-00/sample/stage.json", lambda path: path.unlink(), ("is corrupt", "--redo")),
        ("explore/frames.extxyz", lambda path: path.unlink(), ("is missing or was changed", "--redo explore")),
        ("iter-01/pretrain/model", shutil.rmtree, ("is missing or was changed", "--redo iter-01/pretrain")),
        ("iter-00/select/frames.extxyz", truncate, ("is missing or was changed", "--redo iter-00/select")),
        ("iter-01/finetune/model", cut_model, ("is missing or was changed", "--redo iter-01/finetune")),
        ("model", cut_model, ("is missing or was changed", "--redo model")),
        ("recipe.yaml", lambda path: path.write_text(""), ("is corrupt", "--workdir")),
        ("recipe.yaml", lambda path: path.write_bytes(b"\xff\xfe"), ("is corrupt", "--workdir")),
        ("recipe.yaml", lambda path: path.write_text("a: ]"), ("is corrupt", "--workdir")),
        ("recipe.yaml", lambda path: path.unlink(), ("runs/tiny: is not empty and holds no recipe.yaml", "--workdir")),
    ],
)  # fmt: skip
def test_a_damaged_run_folder(finished, place, change, words):
    change(RUN / place)
    assert_refused((str(RUN / place) if (RUN / place).exists() else "", *words), "run", "recipe.yaml")


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_part(finished, text):
    for stage in ("iter-01", "model", "baseline-teacher", "baseline-scratch", "speed", "report"):
        shutil.rmtree(RUN / stage)
    part = RUN / "iter-01/pretrain.part"
    part.mkdir(parents=True)
    (part / "part.json").write_text(text)
    assert_refused((f"{part}/part.json", "is corrupt", "--redo iter-01/pretrain"), "run", "recipe.yaml")
    assert CliRunner().invoke(main, ["status", str(RUN)]).exit_code == 0


def test_folders_that_are_no_run(task):
    Path("full").mkdir()
    Path("full/thesis.tex").write_text("a life's work")
    Path("file").write_text("")
    assert_refused(("full: is not empty", "--workdir"), "run", "recipe.yaml", "--workdir", "full")
    assert_refused(("file: is a file", "--workdir"), "run", "recipe.yaml", "--workdir", "file")
    assert_refused(("full: is no run folder", "ipip-mace run"), "status", "full")
    assert_refused(("nowhere: is no run folder", "ipip-mace run"), "status", "nowhere")
    assert_refused(("full: is no run folder", "ipip-mace run"), "compare", "full")
    assert_refused(("full: is no run folder", "ipip-mace run"), "track", "full")


def test_a_place_that_cannot_be_written(task, monkeypatch):
    def no(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", no)
    assert_refused(("runs/tiny: can't be written (Permission denied)", "--workdir"), "run", "recipe.yaml")


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("finetun", ("no such stage", "Did you mean finetune?")),
        ("iter-00/finetun", ("no such stage", "Did you mean finetune?")),
        ("iter-07/finetune", ("runs/tiny holds no such stage", "status")),
    ],
)
def test_redo_of_no_stage(finished, stage, words):
    assert_refused((f"--redo {stage}", *words), "run", "recipe.yaml", "--redo", stage)


def test_a_stage_not_reached_has_no_table(finished):
    (RUN / "compare.txt").unlink()
    assert_refused(("runs/tiny: has no comparison yet", "status"), "compare", RUN)
    (RUN / "iter-00/sample/stage.json").write_text("{}")
    assert_refused(("sample/stage.json: is corrupt", "--redo"), "status", RUN)
    (RUN / "events.jsonl").unlink()
    assert_refused(("events.jsonl is not there",), "track", RUN)
