"""A run folder that an older version made is taken as it is: nothing is computed anew, nothing is refused."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from alloy import ROOT
from click.testing import CliRunner

from ipip_ext import load_calculator
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.run.events import read_events

RUN = Path("runs/tiny")


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    """The working directory: recipe.yaml, data/ and runs/tiny of version 0.1.0, with a committee and bought labels."""
    with tarfile.open(ROOT / "tests/fixtures/run_0.1.0.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def records() -> dict[str, dict]:
    return {str(path.parent): json.loads(path.read_text()) for path in sorted(RUN.rglob("stage.json"))}


@pytest.mark.slow
def test_a_run_goes_on_from_it_and_computes_nothing(old):
    before, weights = records(), (RUN / "model/student.safetensors").read_bytes()
    assert len(before) > 25
    call("run", "recipe.yaml")
    told = [event for event in read_events(RUN / "events.jsonl") if event.kind == "stage"]
    again = told[-len(before) :]
    assert {event.name for event in again} <= {"reused", "started", "finished"}
    anew = {event.stage for event in again if event.name != "reused"}
    assert anew <= {"report"}  # it says which versions and times it was made from
    after = records()
    for name, record in before.items():
        assert after[name]["fingerprint"]["stage"] == record["fingerprint"]["stage"]
        if not name.endswith("report"):
            assert after[name] == record
    assert (RUN / "model/student.safetensors").read_bytes() == weights


def test_it_is_read(old):
    assert "report" in call("status", RUN)
    assert "all" in call("verify", RUN).splitlines()[-1]
    table = call("compare", RUN)
    with (RUN / "compare.csv").open() as file:
        names = {row["model"] for row in csv.DictReader(file)}
    assert names == {"ipip", "teacher (python:EMT)", "scratch", "distilled", "iteration-0", "iteration-1"}
    assert all(name in table for name in names)


@pytest.mark.parametrize("committee", [False, True])
def test_its_model_says_what_it_said(old, committee):
    best = json.loads((RUN / "model/stage.json").read_text())["values"]["iteration"]
    stored = np.load(RUN / f"iter-{best:02d}/evaluate/forces.npz")["predicted"]
    calculator = load_calculator(RUN, committee=committee)
    said = []
    for frame in fr.read_frames(RUN / "prepare/test.extxyz"):
        frame.calc = calculator
        said.append(frame.get_forces())
    # the committee holds the student and others like it
    np.testing.assert_allclose(np.concatenate(said), stored, atol=0.5 if committee else 1e-5)
