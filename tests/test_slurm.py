"""A real SLURM: a run whose stages it computes is the run here, through deaths, full queues and kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from placed import RUN, assert_equal, begun, ended, on_cluster, ran, recipe_in, wait_until

from ipip_ext import runner
from ipip_ext.check.status import status
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run import outside
from ipip_ext.run.events import Event, read_events

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

NODE = Path(__file__).with_name("one-node-slurm")
ENOUGH = {"iterations": 1, "pretrain__epochs": 100, "finetune__epochs": 100}
"""Epochs for a kill in the middle."""


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory):
    """One node at work; skipped where none can be, unless the environment says that one must."""
    if os.geteuid() != 0 or not shutil.which("slurmctld") or not shutil.which("munged"):
        assert not os.environ.get("TEST_SLURM"), "no SLURM: run tests/one-node-slurm install as root"
        pytest.skip("needs SLURM and root: tests/one-node-slurm install")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([NODE, "start", folder], capture_output=True, text=True)
    if started.returncode != 0:
        assert not os.environ.get("TEST_SLURM"), started.stderr
        pytest.skip(f"SLURM does not start: {started.stderr.strip().splitlines()[-1:]}")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield
    del os.environ["SLURM_CONF"]
    subprocess.run([NODE, "stop", folder], check=True)


def queue() -> list[str]:
    """Return the ids of the jobs that SLURM has."""
    return slurm_says("squeue", "-h", "-o", "%i", "-t", "PENDING,RUNNING").split()


def slurm_says(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def assert_nothing_left() -> None:
    """Jobs that are cancelled take a moment to end."""
    until = time.monotonic() + 30
    while queue() and time.monotonic() < until:
        time.sleep(0.2)
    assert queue() == []


def on_slurm(folder: Path, **provider: object) -> dict[str, object]:
    """Write a place file of the node; return the changes of the recipe that name it."""
    ours = {
        "class": "SlurmProvider", "partition": "main", "exclusive": False, "cores_per_node": 1, "walltime": "00:30:00",
        "max_blocks": 2,
    }  # fmt: skip
    return on_cluster(folder, 1, retries=2, **ours | provider)


def notes(folder: Path) -> list[str]:
    return [event.name for event in read_events(folder / RUN / "events.jsonl") if event.kind == "note"]


@pytest.fixture(scope="module")
def at_home(tmp_path_factory) -> Path:
    folder = recipe_in(tmp_path_factory.mktemp("here"), **ENOUGH, compute={"place": "here"})
    done = ran(folder)
    assert done.returncode == 0, done.stderr
    return folder / RUN


def test_a_run_through_deaths_is_the_run_here(tmp_path, at_home):
    """A worker is killed in the middle of one stage, its whole block is cancelled in that of another."""
    recipe_in(tmp_path, **ENOUGH, **on_slurm(tmp_path))
    process = begun(tmp_path)
    wait_until(process, tmp_path, (tmp_path / RUN / "iter-00/pretrain.part/fit/checkpoint.pt").exists)
    shown = str(status(tmp_path / RUN))
    assert "running   iter-00/pretrain on node (" in shown
    told = json.loads((tmp_path / RUN / "iter-00/pretrain.job/running.json").read_text())
    os.kill(told["pid"], signal.SIGKILL)
    wait_until(process, tmp_path, (tmp_path / RUN / "iter-00/finetune.part/fit/checkpoint.pt").exists)
    subprocess.run(["scancel", *queue()], check=True)
    said = ended(process, tmp_path)
    assert process.returncode == 0, said
    assert_equal(tmp_path / RUN, at_home)
    gone_on = [note for note in notes(tmp_path) if "it goes on in another" in note]
    assert len(gone_on) >= 2
    assert_nothing_left()


def test_a_partition_that_does_not_exist_is_told_in_sbatch_s_words(tmp_path):
    recipe_in(tmp_path, **ENOUGH, **on_slurm(tmp_path, partition="mian"))
    done = ran(tmp_path)
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "executor node: gets no nodes: " in last
    assert "invalid partition specified: mian" in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_what_was_submitted_is_cancelled_by_who_is_asked_to_stop(tmp_path, signum):
    recipe_in(tmp_path, **ENOUGH | {"pretrain__epochs": 100_000}, **on_slurm(tmp_path))
    process = begun(tmp_path)
    wait_until(process, tmp_path, (tmp_path / RUN / "iter-00/pretrain.part/fit/checkpoint.pt").exists)
    assert queue()
    process.send_signal(signum)
    said = ended(process, tmp_path)
    assert process.returncode == 128 + signum, said
    assert "Traceback" not in said
    assert_nothing_left()


def test_what_a_killed_run_has_submitted_is_cancelled_by_the_next(tmp_path, at_home):
    recipe_in(tmp_path, **ENOUGH, **on_slurm(tmp_path))
    process = begun(tmp_path)
    wait_until(process, tmp_path, (tmp_path / RUN / "iter-00/pretrain.part/fit/checkpoint.pt").exists)
    (left,) = json.loads((tmp_path / RUN / "blocks.json").read_text())["node"][1][:1]
    process.kill()
    ended(process, tmp_path)
    done = ran(tmp_path)
    assert done.returncode == 0, done.stderr
    (said,) = [note for note in notes(tmp_path) if "they are cancelled" in note]
    assert left in said
    assert_equal(tmp_path / RUN, at_home)
    assert_nothing_left()


def test_a_full_queue_is_waited_for_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(outside, "_WAITS_S", 3.0)
    recipe_in(tmp_path, iterations=1, **on_slurm(tmp_path))
    holder = slurm_says("sbatch", "--parsable", "--exclusive", "--wrap", "sleep 600", "-o", "/dev/null").strip()
    monkeypatch.chdir(tmp_path)
    shown: list[str] = []

    def hear(event: Event) -> None:
        if "waits for a place" in event.name:
            shown.append(f"{event.name}\n{status(RUN)}")
            subprocess.run(["scancel", holder], check=True)

    runner.run(load_recipe(Path("recipe.yaml")), RUN, show=hear)
    (said,) = shown[:1]
    assert "waits for a place on executor node (job " in said
    assert "queued    prepare on node (job " in said
    assert_nothing_left()


def test_check_proves_each_executor(tmp_path):
    recipe_in(tmp_path, **on_slurm(tmp_path))
    done = ran(tmp_path, "check")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("executor node: ")]
    for word in ("Python 3", "torch ", "mace-torch ", "ipip-mace ", "cpu", "first answer after "):
        assert word in line
    assert not list(tmp_path.glob(".ipip-proof-*"))
    assert_nothing_left()
