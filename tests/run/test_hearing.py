"""Whatever a job has said is passed on once, by the run that asked for it or by the one that goes on after a kill."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from ipip_ext.run.carry_out import job_of
from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.hearing import EVENTS, Ear, left_by
from ipip_ext.run.probe import idle
from ipip_ext.run.workspace import Workspace


@pytest.fixture
def job(tmp_path) -> Path:
    folder = job_of(tmp_path / "idle")
    folder.mkdir()
    return folder


def say(job: Path, *names: str, end: str = "\n") -> None:
    with (job / EVENTS).open("a") as file:
        file.write("\n".join(json.dumps(asdict(Event("metric", name, 1.0, "idle"))) for name in names) + end)


def heard(ear: Ear) -> list[str]:
    return [event.name for event in ear.events()]


def test_each_is_heard_once_and_a_line_without_an_end_when_it_has_one(job):
    ear = Ear(job)
    assert heard(ear) == []
    say(job, "a", "b")
    assert heard(ear) == ["a", "b"]
    say(job, "c", end="")
    assert heard(ear) == []
    with (job / EVENTS).open("a") as file:
        file.write("\nnonsense\n")
    assert heard(ear) == ["c"]


def test_what_was_read_and_not_passed_on_is_left_for_the_next(job, tmp_path):
    ear = Ear(job)
    say(job, "a")
    assert heard(ear) == ["a"]
    say(job, "b", "c")
    events = ear.events()
    assert next(events).name == "b"  # and then the run is killed: b may be in its log, or not
    assert [event.name for event in left_by(tmp_path / "idle")] == ["b", "c"]
    assert not job.exists()
    assert list(left_by(tmp_path / "idle")) == []


def test_a_stage_that_ended_while_nobody_listened_is_told_of(tmp_path):
    """Its job went on after its run was killed: the folder is whole, and what was said of it is still to be told."""
    Workspace(tmp_path, EventBus([])).do(idle, number=3)
    (tmp_path / "idle").rename(tmp_path / "idle.part")
    job = job_of(tmp_path / "idle")
    job.mkdir()
    say(job, "loss", "share")
    told: list[Event] = []
    assert Workspace(tmp_path, EventBus([told.append])).do(idle, number=3).number == 3
    assert [event.name for event in told] == ["loss", "share", "finished"]
    assert not job.exists()


def test_a_kill_between_a_stage_and_the_end_of_its_job_leaves_nothing(job, tmp_path):
    say(job, "loss")
    Workspace(tmp_path / "other", EventBus([])).do(idle, number=3)
    (tmp_path / "other/idle").rename(tmp_path / "idle")
    told: list[Event] = []
    Workspace(tmp_path, EventBus([told.append])).do(idle, number=3)
    assert [event.name for event in told] == ["loss", "reused"]
    assert not job.exists()
