"""What a killed run has left elsewhere is cancelled and awaited, and nothing else is."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from ipip_ext.errors import WorkspaceError
from ipip_ext.run import leftovers

SAID = "a run that was killed has left blocks {} of executor node; they are cancelled"


@pytest.fixture
def cancelled(tmp_path, monkeypatch) -> Path:
    """The file in which a stand-in for scancel writes what it is given."""
    words, command = tmp_path / "cancelled.txt", tmp_path / "bin/scancel"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {words}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    return words


def test_blocks_are_cancelled_once(tmp_path, cancelled):
    leftovers.write(tmp_path, {"node": ("SlurmProvider", ["12", "13_4"])})
    said: list[str] = []
    for _ in range(2):
        leftovers.end(tmp_path, said.append)
    assert cancelled.read_text() == "12 13_4\n"
    assert said == [SAID.format("12 13_4")]
    assert not (tmp_path / leftovers.FILE).exists()


@pytest.mark.parametrize("number", ["--me", "-u root", "7; rm x", "", "$(x)"])
def test_what_is_no_id_is_passed_over(tmp_path, cancelled, number):
    leftovers.write(tmp_path, {"node": ("SlurmProvider", [number])})
    leftovers.end(tmp_path, lambda _: None)
    assert not cancelled.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"node": ["NoProvider", ["1"]]})])
def test_a_note_that_tells_nothing_stops_nobody(tmp_path, cancelled, text):
    (tmp_path / leftovers.FILE).write_text(text)
    leftovers.end(tmp_path, lambda _: None)
    assert not cancelled.exists()


def beating(root: Path, over: threading.Event) -> threading.Thread:
    """Return what touches a job's beat until it is over, as a job does."""
    beat = root / "iter-00/pretrain.job/beat"
    beat.parent.mkdir(parents=True)

    def live() -> None:
        while not over.wait(0.1):
            beat.touch()

    beat.touch()
    thread = threading.Thread(target=live)
    thread.start()
    return thread


def test_a_job_that_still_works_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "_STILL_S", 1.0)
    leftovers.write(tmp_path, {"node": ("LocalProvider", ["1"])})
    over = threading.Event()
    thread = beating(tmp_path, over)
    threading.Timer(1.5, over.set).start()
    start, said = time.monotonic(), list[str]()
    leftovers.end(tmp_path, said.append)
    assert time.monotonic() - start >= 1.5
    assert said == ["waiting until jobs of a run that was killed have ended"]
    thread.join()


def test_one_that_does_not_end_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "_PATIENCE_S", 1.0)
    leftovers.write(tmp_path, {"node": ("LocalProvider", ["1"])})
    over = threading.Event()
    thread = beating(tmp_path, over)
    try:
        with pytest.raises(WorkspaceError, match="a job of a run that was killed still works in it; cancel it"):
            leftovers.end(tmp_path, lambda _: None)
    finally:
        over.set()
        thread.join()
