"""All of a run computes on the device of the recipe, and an MD step sends no more to and fro than it must."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from alloy import write_alloy, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict:
    """What a process says that has another device; its run is the finished run's, without baselines."""
    folder = tmp_path_factory.mktemp("device")
    (folder / "data").mkdir()
    write_alloy(folder / "data")
    write_recipe(
        folder, Path("data"), baselines=[], committee__export=True, evaluate__speed_supercells=[],
        evaluate__speed_supercell=[1, 1, 1], tracking__enabled=False,
    )  # fmt: skip
    driver = Path(__file__).with_name("on_fake_device.py")
    done = subprocess.run([sys.executable, str(driver), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {"folder": folder, **json.loads(done.stdout.splitlines()[-1])}


def errors(run: Path) -> dict[tuple[str, str], float]:
    with (run / "compare.csv").open() as file:
        return {(row["model"], row["split"]): float(row["force_mae_meV_per_A"]) for row in csv.DictReader(file)}


def test_a_whole_run_on_another_device_ends_as_on_the_cpu(told, finished_run):
    """It would have failed where a tensor of the CPU met one of the device."""
    there, here = errors(told["folder"] / "runs/tiny"), errors(finished_run / "runs/tiny")
    assert len(there) == 9  # the student and two iterations, on three splits
    assert there == pytest.approx({key: here[key] for key in there}, rel=1e-3)
    assert told["run"]["calls"] > 10_000


def test_an_md_step_sends_positions_there_and_results_back(told):
    assert told["md_steps"] == {"transfer": 40, "aten::nonzero": 20, "aten::_local_scalar_dense": 0}  # of 20 steps


def test_calculators_of_a_student_and_of_a_committee_compute_there(told):
    assert set(told["differences"]) == {"student", "committee"}
    assert max(told["differences"].values()) < 1e-5
