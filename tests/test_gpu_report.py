"""The script for a day with a GPU works: here on a CPU, with as little of everything as it takes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "gpu_report"

PARTS = {
    "student": 1, "agreement": 4, "sampling": 4, "kernels": 1, "convolutions": 4, "training": 2, "torchsim": 1,
    "memory": 2, "resume": 4, "committee": 1, "members": 1,
}  # fmt: skip
"""Each part and how many rows it has."""


def report(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(out), "--device", "cpu", "--tiny", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("gpu") / "new" / "folder"
    done = report(out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_every_part_is_measured_in_finite_numbers(folder):
    told = json.loads((folder / "gpu.json").read_text())
    assert set(told["parts"]) == set(PARTS)
    for name, part in told["parts"].items():
        assert part["seconds"] >= 0
        if part["status"] == "not installed":
            assert name == "torchsim"
            continue
        assert part["status"] == "done", part
        assert len(part["rows"]) == PARTS[name], part["rows"]
        for value in (value for row in part["rows"] for value in row.values() if isinstance(value, float)):
            assert math.isfinite(value), part["rows"]
    assert all(row["bitwise"] == "yes" for row in told["parts"]["resume"]["rows"])  # on a CPU
    assert all(row["forces, largest difference, meV/A"] < 0.1 for row in told["parts"]["agreement"]["rows"])


@pytest.mark.slow
def test_the_tables_name_all_that_was_measured(folder):
    told, text = json.loads((folder / "gpu.json").read_text()), (folder / "gpu.md").read_text()
    for name, part in told["parts"].items():
        assert f"### {part['title']} (`{name}`)" in text
        for row in part["rows"]:
            assert all(f"| {column} |" in text or f" {column} |" in text for column in row)
    assert all(line in text for line in told["headlines"])
    assert any("40 is wanted" in line for line in told["headlines"])
    assert told["machine"]["torch"] in text


@pytest.mark.slow
def test_a_part_that_fails_is_told_of_and_the_others_are_measured(tmp_path, monkeypatch):
    """Where there is no GPU everything fails that wants one, and is written down all the same."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    arguments = ("--parts", "student,memory", "--device", "meta")
    done = report(tmp_path, *arguments)
    assert done.returncode == 1
    assert "failed: student, memory" in done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {"student": "failed", "memory": "failed"}
    assert "failed: " in (tmp_path / "gpu.md").read_text()


@pytest.mark.slow
def test_a_part_without_time_left_is_cut_short(tmp_path):
    done = report(tmp_path, "--parts", "sampling", "--budget-s", "0")
    assert done.returncode == 0
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"]["sampling"]["status"] == "cut short"


def test_an_unknown_part_is_refused(tmp_path):
    done = report(tmp_path, "--parts", "sampling,sleeping")
    assert done.returncode == 2
    assert "--parts: sleeping unknown" in done.stderr
