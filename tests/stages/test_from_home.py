"""What a run tells of its student's home: a file beside the model, a table in the report, and nothing of older runs."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from alloy import ROOT
from click.testing import CliRunner

from ipip_ext import evaluate, load_potential, open_run
from ipip_ext.backends.home_file import HOME
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.data.tables import read_csv
from ipip_ext.measure.home import outside, rank_correlation, worth
from ipip_ext.potentials.home import has_home

RUN = Path("runs/tiny")


def call(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_run_tells_how_far_its_test_frames_are_from_home(finished):
    told = json.loads((RUN / "home/told.json").read_text())
    assert list(told) == ["test", "test_id", "test_ood", "pool"]
    rows = read_csv(RUN / "home/frames.csv")
    test = fr.read_frames(RUN / "prepare/test.extxyz")
    potential = load_potential(RUN)
    said = potential.compute(test)
    errors = [np.abs(p.forces_eV_per_A - f.arrays[fr.FORCES]) for p, f in zip(said, test, strict=True)]
    distances = [p.home_distances for p in said]
    for row, frame, own, error in zip(rows, test, distances, errors, strict=False):
        assert row["frame_id"] == frame.info[fr.ID]
        assert row["set"] == fr.split_of(frame, "start", ["s2"])
        assert float(row["home_distance"]) == pytest.approx(own.max(), abs=1e-3)
        assert row["farthest_element"] == frame.symbols[own.argmax()]
        assert float(row["force_mae_meV_per_A"]) == pytest.approx(1e3 * error.mean(), rel=1e-3)
    assert told["test"] == pytest.approx(outside(distances) | worth(distances, errors), rel=1e-3)
    pool = [row for row in rows if row["set"] == "pool"]
    assert len(pool) == told["pool"]["n_frames"] == len(rows) - len(test)
    assert told["pool"]["n_frames_outside"] == sum(float(row["home_distance"]) > 1 for row in pool)
    found = evaluate(open_run(RUN), test)
    assert found["n_frames_outside"] == told["test"]["n_frames_outside"]
    assert found["home_rank_correlation"] == pytest.approx(told["test"]["frames_rank_correlation"])
    text = (RUN / "compare.txt").read_text()
    line = next(line for line in text.splitlines() if line.startswith("test  ") and "%" in line)
    assert f"{told['test']['frames_rank_correlation']:.2f}" in line.split()
    page = (RUN / "report.html").read_text()
    assert "Where the student is not at home" in page
    assert "from home" in page


def test_validation_frames_are_what_a_distance_is_measured_by(finished):
    """And training frames are at home; both are more alike than the test frames, which are rattled more."""
    potential = load_potential(RUN)
    largest = {
        name: np.array([one.max() for one in potential.home_distances(fr.read_frames(RUN / f"prepare/{name}.extxyz"))])
        for name in ("train", "valid", "test")
    }
    assert largest["train"].max() < 0.1  # as many as these are kept, every one
    assert np.mean(largest["valid"] <= 1) >= 0.75
    assert np.quantile(largest["valid"], 0.9) <= 1.0
    assert np.median(largest["test"]) > np.median(largest["valid"])


@pytest.mark.slow
def test_an_older_run_can_not_tell_until_its_model_is_exported_anew(tmp_path, monkeypatch):
    with tarfile.open(ROOT / "tests/fixtures/run_0.1.0.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    weights = (RUN / "model/student.safetensors").read_bytes()
    assert not has_home(load_potential(RUN))
    call("run", "recipe.yaml")
    assert not (RUN / "home").exists()
    assert "can't tell where it is at home (--redo model)" in (RUN / "compare.txt").read_text()
    call("run", "recipe.yaml", "--redo", "model")
    assert (RUN / "model/student.safetensors").read_bytes() == weights
    assert (RUN / "model" / HOME).stat().st_size < 1_000_000
    assert has_home(load_potential(RUN))
    assert (RUN / "home/told.json").is_file()
    assert "all" in call("verify", RUN).splitlines()[-1]


def test_ranks_are_compared_where_there_are_some():
    assert rank_correlation(np.array([1.0, 2.0, np.inf]), np.array([0.1, 0.2, 9.0])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1)
    assert rank_correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None
    assert rank_correlation(np.ones(5), np.arange(5.0)) is None


def test_errors_inside_and_outside_by_hand():
    distances = [np.array([0.5, 0.2]), np.array([0.3, 1.5]), np.array([0.1, 0.9])]
    errors = [np.full((2, 3), 0.010), np.full((2, 3), 0.040), np.full((2, 3), 0.020)]
    assert outside(distances) == {"n_frames": 3, "n_frames_outside": 1, "atoms_outside_share": pytest.approx(1 / 6)}
    found = worth(distances, errors)
    assert found["force_mae_inside_meV_per_A"] == pytest.approx(15)
    assert found["force_mae_outside_meV_per_A"] == pytest.approx(40)
    assert found["frames_rank_correlation"] == pytest.approx(1)
    assert worth(distances[:1], errors[:1])["force_mae_outside_meV_per_A"] is None
