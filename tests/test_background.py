"""More processes: the same weights, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from alloy import write_recipe
from processes import processes
from safetensors.numpy import load_file

from ipip_ext import background, stages
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run import signals
from ipip_ext.run.events import Event, EventBus, Sink, read_events
from ipip_ext.run.stage import Context
from ipip_ext.stages.committee import committee
from ipip_ext.stages.inputs import Size, Task

pytestmark = pytest.mark.slow

SLEEPER = """
import time
from ipip_ext.run.processes import tell
tell(share=0.25, text="epoch 1/4")
time.sleep(600)
"""
SCRATCH = Path("runs/tiny/baseline-scratch/scratch")
two_cores = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a second process needs a second core")


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ipip_ext.cli", "run", "recipe.yaml"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
    assert processes("ipip_ext.second_process", tmp_path)
    first.send_signal(signal.SIGKILL)
    first.wait()
    deadline = time.monotonic() + 60
    while processes("ipip_ext.second_process", tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes("ipip_ext.second_process", tmp_path)


def background_of(module: str, folder: Path, monkeypatch, *sinks: Sink) -> background.Background:
    """Return one whose second process, at work by now, is `module`."""
    monkeypatch.setattr(background, "_MODULE", module)
    second = background.Background(folder / "run", folder, EventBus(list(sinks)))
    second.before("explore")
    return second


def test_one_that_dies_at_its_start_is_told_of_at_the_next_stage(tmp_path, monkeypatch):
    heard = Heard()
    second = background_of("ipip_ext.no_such_module", tmp_path, monkeypatch, heard)
    assert second.process is not None
    pid = second.process.pid
    second.process.wait()
    for stage in ("iter-00/pretrain", "iter-00/finetune", background.SCRATCH):
        second.before(stage)
    (note,) = heard.texts("note")
    assert note.startswith(f"process {pid}, which was to train it, ended with exit code 1, having said: ")
    assert note.endswith("No module named ipip_ext.no_such_module; this one will")


def test_waiting_for_it_is_said_and_can_be_stopped(tmp_path, monkeypatch):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    heard = Heard()

    def stop_once_it_was_heard(event: Event) -> None:
        if event.value == 0.25:
            os.kill(second.process.pid, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGTERM)

    second = background_of("sleeper", tmp_path, monkeypatch, signals.at_safe_points, heard, stop_once_it_was_heard)
    with pytest.raises(signals.Stopped), signals.stoppable():
        second.before(background.SCRATCH)
    second.stop()
    assert heard.texts("note") == [f"waiting for process {second.process.pid}, which trains it"]
    assert heard.texts("progress")[-1] == "epoch 1/4"
    assert not processes("sleeper", tmp_path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, finished_run) -> Path:
    """The members of a committee, trained one after another."""
    return train_members(finished_run, tmp_path_factory.mktemp("alone") / "stage", spare_processes=0)


class Heard(list[Event]):
    """A sink that keeps what it is told."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def texts(self, kind: str) -> list[str]:
        return [e.data["text"] if kind == "progress" else e.name for e in self if e.kind == kind]


def train_members(project: Path, folder: Path, *sinks: Sink, spare_processes: int = 2) -> Path:
    """Train a committee of four for the first iteration of the run in `project`; return its members."""
    folder.mkdir(exist_ok=True)
    run = project / "runs/tiny"
    ctx = Context(folder, "iter-00/committee", 7, "cpu", EventBus(list(sinks)), spare_processes=spare_processes)
    recipe = load_recipe(run / "recipe.yaml")
    done = committee(
        ctx, recipe.finetune, student=recipe.student, wanted=Size(4, bootstrap=True),
        pretrained=run / "iter-00/pretrain/model", tuned=run / "iter-00/finetune/model",
        pool=run / "explore/frames.extxyz", task=Task(run / "prepare/train.extxyz", run / "prepare/valid.extxyz"),
    )  # fmt: skip
    return done["members"]


def assert_same_members(some: Path, others: Path) -> None:
    for k in range(4):
        expected, found = (load_file(members / f"{k}/student.safetensors") for members in (some, others))
        assert all(np.array_equal(expected[name], found[name]) for name in expected), k


def test_members_side_by_side_are_those_that_come_one_after_another(alone, finished_run, tmp_path):
    heard = Heard()
    assert_same_members(alone, train_members(finished_run, tmp_path / "stage", heard))
    assert {path.name for path in (tmp_path / "stage").iterdir()} == {"members", "calibration.json"}
    told = heard.texts("progress")
    assert all(any(text.startswith(f"member {k}: epoch") for text in told) for k in (1, 2, 3))
    shares = [event.value for event in heard if event.kind == "progress"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_what_a_process_leaves_undone_the_first_one_does(alone, finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(stages.members, "_MODULE", "ipip_ext.no_such_module")
    heard = Heard()
    assert_same_members(alone, train_members(finished_run, tmp_path / "stage", heard))
    said = [text for text in heard.texts("note") if "its process ended with exit code 1, having said: " in text]
    assert len(said) == 2
    assert all("No module named ipip_ext.no_such_module; this one goes on with it" in text for text in said)


def test_a_stop_ends_them_and_what_they_have_trained_is_gone_on_with(alone, finished_run, tmp_path):
    class Stop(BaseException):
        pass

    def at_the_first_word_of_another(event: Event) -> None:
        if event.kind == "progress" and event.data["text"].startswith("member 3: epoch"):
            raise Stop

    with pytest.raises(Stop):
        train_members(finished_run, tmp_path / "stage", at_the_first_word_of_another)
    assert not processes("ipip_ext.stages.member_process", tmp_path)
    assert_same_members(alone, train_members(finished_run, tmp_path / "stage"))


def test_processes_are_started_only_for_cores_that_are_free(tmp_path, alloy_data, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)

    def spare(**changes: object) -> int:
        changes = {"parallel": True} | changes
        return background.spare_processes(load_recipe(write_recipe(tmp_path, alloy_data, **changes)))

    assert spare() == 6  # one is this process's, one is the baseline's
    assert spare(baselines=[]) == 7
    assert spare(baselines=[], threads=3) == 1
    assert spare(threads=8) == spare(threads=None) == spare(device="cuda") == spare(parallel=False) == 0


def test_it_is_started_only_where_it_helps(tmp_path, alloy_data):
    def worthwhile(**changes: object) -> bool:
        return background.is_worthwhile(load_recipe(write_recipe(tmp_path, alloy_data, parallel=True, **changes)))

    assert worthwhile() == ((os.cpu_count() or 1) >= 2)
    assert not worthwhile(device="cuda")
    assert not worthwhile(threads=None)
    assert not worthwhile(threads=1000)
    assert not worthwhile(baselines=[{"kind": "teacher"}])
    assert not worthwhile(label__reference={"calculator": "chgnet", "budget": 1})
