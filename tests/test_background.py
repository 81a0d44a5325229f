"""The second process: the same weights, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import write_recipe
from safetensors.numpy import load_file

from ipip_ext import background
from ipip_ext.events import read_events
from ipip_ext.recipe_file import load_recipe

pytestmark = pytest.mark.slow

SCRATCH = Path("runs/tiny/baseline-scratch/scratch")
two_cores = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a second process needs a second core")


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ipip_ext.cli", "run", "recipe.yaml"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds(folder: Path) -> list[int]:
    """Return the ids of the second processes of the run in `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"ipip_ext.second_process" in words and any(str(folder).encode() in word for word in words):
            found.append(int(entry.parent.name))
    return found


@two_cores
def test_the_second_process_trains_what_the_first_would(tmp_path, alloy_data, finished_run):
    write_recipe(tmp_path, alloy_data, parallel=True, tracking__enabled=False)
    assert start(tmp_path).wait() == 0
    expected = load_file(finished_run / SCRATCH / "model/student.safetensors")
    found = load_file(tmp_path / SCRATCH / "model/student.safetensors")
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    events = [e for e in read_events(tmp_path / "runs/tiny/events.jsonl") if e.stage == "baseline-scratch/scratch"]
    assert [e.name for e in events if e.kind == "stage"] == ["started", "finished", "reused"]


@two_cores
def test_no_second_process_outlives_a_killed_run(tmp_path, alloy_data):
    write_recipe(
        tmp_path, alloy_data, parallel=True, tracking__enabled=False, explore__n_steps=20000,
        baselines=[{"kind": "scratch", "fit": {"epochs": 5000}}],
    )  # fmt: skip
    first = start(tmp_path)
    checkpoint = tmp_path / "runs/tiny/baseline-scratch/scratch.part/fit/checkpoint.pt"
    while not checkpoint.exists():
        assert first.poll() is None
        time.sleep(0.01)
    assert seconds(tmp_path)
    first.send_signal(signal.SIGKILL)
    first.wait()
    deadline = time.monotonic() + 60
    while seconds(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not seconds(tmp_path)


def test_it_is_started_only_where_it_helps(tmp_path, alloy_data):
    def worthwhile(**changes: object) -> bool:
        return background.is_worthwhile(load_recipe(write_recipe(tmp_path, alloy_data, parallel=True, **changes)))

    assert worthwhile() == ((os.cpu_count() or 1) >= 2)
    assert not worthwhile(device="cuda")
    assert not worthwhile(threads=None)
    assert not worthwhile(threads=1000)
    assert not worthwhile(baselines=[{"kind": "teacher"}])
    assert not worthwhile(label__reference={"calculator": "chgnet", "budget": 1})
