"""Killed in the middle of pretraining and of sampling, a run finishes with bitwise the same model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from alloy import ROOT, write_recipe
from safetensors.numpy import load_file

from ipip_ext.data import frames as fr

pytestmark = pytest.mark.slow

SIZES = {
    "pretrain__epochs": 40, "pretrain__batch_size": 4, "explore__n_steps": 300, "explore__frame_every": 25,
    "tracking__enabled": False, "evaluate__speed_steps": 1, "evaluate__speed_supercells": [],
    "baselines": [{"kind": "teacher"}],
}  # fmt: skip


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "ipip_ext.cli", "run", str(folder / "recipe.yaml")]


def run_to_the_end(folder: Path) -> None:
    done = subprocess.run(command(folder), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def kill_when(folder: Path, wanted: str, signum: int = signal.SIGKILL) -> None:
    """Start the run, and end it by a signal as soon as a file matching `wanted` is there."""
    with subprocess.Popen(command(folder), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not list((folder / "runs" / "tiny").glob(wanted)):
            assert process.poll() is None, f"the run ended before {wanted} was there"
            time.sleep(0.002)
        os.kill(process.pid, signum)
        process.wait()


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "runs/tiny/model/student.safetensors")


def test_a_killed_run_ends_as_an_uninterrupted_one(tmp_path, alloy_data):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder in (straight, killed):
        folder.mkdir()
        write_recipe(folder, alloy_data, **SIZES)
    run_to_the_end(straight)

    kill_when(killed, "iter-00/pretrain.part/fit/checkpoint.pt")
    assert not (killed / "runs/tiny/iter-00/pretrain").exists()
    kill_when(killed, "iter-00/finetune.part/fit/checkpoint.pt", signal.SIGTERM)
    kill_when(killed, "iter-00/sample.part/md/*")
    assert not (killed / "runs/tiny/iter-00/sample").exists()
    status = subprocess.run(
        [sys.executable, "-m", "ipip_ext.cli", "status", "runs/tiny"], cwd=killed, capture_output=True, text=True
    )
    assert "under way iter-00/sample" in status.stdout
    run_to_the_end(killed)

    expected, found = weights(straight), weights(killed)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), name
    for stage in ("iter-00/sample", "iter-00/select"):
        pair = [fr.read_frames(folder / "runs/tiny" / stage / "frames.extxyz") for folder in (straight, killed)]
        assert len(pair[0]) == len(pair[1]) > 0
        assert all(np.array_equal(a.positions, b.positions) for a, b in zip(*pair, strict=True))
    tables = [(folder / "runs/tiny/compare.csv").read_text().splitlines() for folder in (straight, killed)]
    errors = [[line.split(",")[:7] for line in table] for table in tables]  # the rest is timing
    assert errors[0] == errors[1]


def test_disturbed_anywhere_it_ends_as_if_nothing_had_been(tmp_path):
    """The short form of scripts/torture: a kill, a signal and an exception, each at a point of its own."""
    command = [
        sys.executable,
        str(ROOT / "tests/torture.py"),
        "--points",
        "3",
        "--keep",
        str(tmp_path / "t"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["points_there"] > 300
    assert found["points"] == found["resumed"] == found["equal"] == 3
