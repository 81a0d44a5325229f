"""A finished run holds what it claims, and whatever is changed in it is found."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.run import provenance

RUN = Path("runs/tiny")


@pytest.fixture
def finished(tmp_path, finished_run, monkeypatch) -> Path:
    """A copy of the finished run."""
    shutil.copytree(finished_run, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return RUN


def verify(code: int) -> str:
    done = CliRunner().invoke(main, ["verify", str(RUN)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def wrong() -> str:
    """Return the claims that do not hold."""
    return "\n".join(line for line in verify(1).splitlines() if line.startswith("WRONG"))


def test_a_finished_run_holds(finished):
    said = verify(0)
    assert said.splitlines()[-1].startswith("all ")
    for name in ("ipip", "scratch", "iteration-0", "iteration-1"):
        assert f"errors of {name}, computed again from" in said
    for words in ("outputs of iter-01/pretrain", "computed again from the final model", "compare.csv is the report's",
                  "errors of teacher (python:EMT), from its stored predictions"):  # fmt: skip
        assert words in said
    for path in Path("data").iterdir():
        path.unlink()
    assert verify(0) == said  # the folder is all it needs


def turn(path: Path) -> None:
    """Change weights a little."""
    weights = load_file(path)
    changed = {key: np.asarray(1.05 * value, value.dtype) for key, value in weights.items() if "weight" in key}
    save_file({**weights, **changed}, path)


def lower(path: Path) -> None:
    """Make the student's error look smaller."""
    rows = list(csv.reader(path.open()))
    rows[1][4] = str(round(float(rows[1][4]) * 0.9, 4))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def drop_one(path: Path) -> None:
    fr.write_frames(path, fr.read_frames(path)[:-1])


CHANGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("model/student.safetensors", turn, "outputs of model: student_safetensors"),
    ("iter-00/finetune/model/student.safetensors", turn, "outputs of iter-00/finetune: model"),
    ("report/compare.csv", lower, "outputs of report: "),
    ("compare.csv", lower, "compare.csv is the report's: missing or changed"),
    ("parity.png", Path.unlink, "parity.png is the report's: missing or changed"),
    ("prepare/test.extxyz", drop_one, "outputs of prepare: test"),
    ("iter-00/evaluate/stage.json", lambda path: path.write_text("{"), "outputs of iter-00/evaluate: "),
    ("iter-00/label", shutil.rmtree, "is the output of no stage"),
]


@pytest.mark.parametrize(
    ("name", "change", "words"), CHANGES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_was_changed_is_found(finished, name, change, words):
    change(finished / name)
    assert words in wrong()


def edit(key: str, value: object) -> Callable[[Path], object]:
    """Return what writes another value of a stage into its record."""

    def change(path: Path) -> None:
        record = json.loads(path.read_text())
        assert key in record["values"]
        path.write_text(json.dumps(record | {"values": record["values"] | {key: value}}))

    return change


@pytest.mark.parametrize(("stage", "key", "value"), [("iter-01/finetune", "epochs", 99), ("explore", "n_frames", 1)])
def test_a_value_that_was_changed_in_a_record_is_found(finished, stage, key, value):
    path = finished / stage / "stage.json"
    then = json.loads(path.read_text())["values"][key]
    edit(key, value)(path)
    assert f"{stage}: {key} is {value} in stage.json and was {then}" in wrong()


def test_a_kill_between_the_end_of_a_stage_and_its_event_makes_nothing_wrong(finished):
    """Then the last word on it may be of the time before a redo."""
    path, events = finished / "iter-00/finetune/stage.json", finished / "events.jsonl"
    edit("epochs", -1)(path)
    event = next(line for line in events.read_text().splitlines() if '"started", "stage": "iter-00/finetune"' in line)
    with events.open("a") as file:
        file.write(f"{event}\n")
    assert verify(0)


def rehash(stage: str, output: str) -> None:
    """Make the record of a stage agree with its files again."""
    path = RUN / stage / "stage.json"
    record = json.loads(path.read_text())
    entry = record["outputs"][output]
    entry["sha256"] = provenance.sha256(path.parent / entry["file"])
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("stage", "output", "name", "change", "words"),
    [
        ("model", "student_safetensors", "student.safetensors", turn, "errors of ipip, computed again from the final"),
        ("iter-00/finetune", "model", "model/student.safetensors", turn, "is the output of no stage"),
        ("prepare", "test", "test.extxyz", drop_one, "is the output of no stage"),
        ("report", "compare_csv", "compare.csv", lower, "errors of ipip"),
    ],
)
def test_a_change_with_its_record_is_found_too(finished, stage, output, name, change, words):
    change(finished / stage / name)
    outputs = json.loads((finished / stage / "stage.json").read_text())["outputs"]
    output = next(key for key, entry in outputs.items() if entry["file"] == name or key == output)
    rehash(stage, output)
    if stage == "report":
        shutil.copy(finished / "report/compare.csv", finished / "compare.csv")
    assert words in wrong()


def test_what_is_no_finished_run(finished):
    shutil.rmtree(finished / "report")
    for folder, words in ((RUN, "has no comparison yet"), (Path("data"), "is no run folder")):
        done = CliRunner().invoke(main, ["verify", str(folder)])
        assert (done.exit_code, words in done.stderr) == (2, True), done.stderr


def test_errors_of_parts_that_are_other_frames_are_found(finished):
    """As a run has them whose test frames had one name, and were told by it."""
    record = json.loads((finished / "report/stage.json").read_text())
    file = record["outputs"]["breakdown"]["file"]
    with (finished / file).open(newline="") as table:
        rows = list(csv.DictReader(table))
    aluminium = next(r for r in rows if (r["model"], r["split"], r["value"]) == ("scratch", "test", "Al"))
    was = aluminium["force_mae_meV_per_A"]
    aluminium["force_mae_meV_per_A"] = str(1.01 * float(was))
    for path in (finished / file, finished / "report" / file):
        with path.open("w", newline="") as table:
            writer = csv.DictWriter(table, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    record["outputs"]["breakdown"]["sha256"] = provenance.sha256(finished / file)
    (finished / "report/stage.json").write_text(json.dumps(record))
    said = wrong()
    assert f"element Al force_mae_meV_per_A is {1.01 * float(was):g} in breakdown.csv and {float(was):g} now" in said
    assert len(said.splitlines()) == 1
