"""MD killed anywhere and called again gives bitwise what it would have given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fragile import Fragile, walk

from ipip_ext.md import checkpoint, engine


def same(one, other):
    assert one.stops == other.stops
    assert len(one.frames) == len(other.frames)
    for a, b in zip(one.frames, other.frames, strict=True):
        assert a.info == b.info
        assert np.array_equal(a.positions, b.positions)
        assert np.array_equal(a.arrays["MD_forces"], b.arrays["MD_forces"])


_CALLS: list[int] = []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    potential = Fragile()
    result = walk(tmp_path_factory.mktemp("whole"), potential)
    _CALLS.append(potential.calls)
    assert {stop.reason for stop in result.stops} == {"calculator"}
    assert 3 < min(stop.md_step for stop in result.stops) < 25
    assert 40 < len(result.frames) < 60
    return result


@pytest.mark.parametrize("dies", [1, 2, 13, 23, 31, 32, 38, 45])
@pytest.mark.parametrize("last_commit", [0, 12, 10**9])
def test_killed_at_a_call_and_resumed(tmp_path, monkeypatch, whole, dies, last_commit):
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", -1.0)
    steps = []

    def lag(_done, _total, _text):
        steps.append(1)
        if len(steps) * 3 >= last_commit:
            monkeypatch.setattr(engine, "COMMIT_EVERY_S", 1e9)

    if last_commit == 0:
        monkeypatch.setattr(engine, "COMMIT_EVERY_S", 1e9)
    potential = Fragile(dies=dies)
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path, potential, lag)
    again = Fragile()
    same(walk(tmp_path, again), whole)
    if last_commit == 10**9 and dies > 2:
        assert again.calls <= _CALLS[0] - (dies - 1) + 2  # what was committed is not computed again


@pytest.mark.parametrize("ensemble", ["nve", "nvt_bussi"])
def test_other_ensembles_resume_too(tmp_path, monkeypatch, ensemble):
    whole = walk(tmp_path / "whole", ensemble=ensemble)
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path / "cut", Fragile(dies=20), ensemble=ensemble)
    monkeypatch.undo()
    same(walk(tmp_path / "cut", ensemble=ensemble), whole)


@pytest.mark.parametrize("dies", range(1, 32, 5))
def test_killed_between_any_two_writes(tmp_path, monkeypatch, whole, dies):
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", -1.0)
    write, writes = checkpoint._replace, []

    def cut(path, content):
        writes.append(path)
        if len(writes) == dies:
            path.with_name(path.name + ".part").write_bytes(content[: len(content) // 2])
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(checkpoint, "_replace", cut)
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path)
    monkeypatch.undo()
    same(walk(tmp_path), whole)


@pytest.mark.parametrize("tell_every_s", [1e9, -1.0])
def test_a_progress_that_raises_loses_nothing(tmp_path, monkeypatch, whole, tell_every_s):
    """Neither where frames are kept nor at any other step, where it is asked now and then."""
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", 1e9)
    monkeypatch.setattr(engine, "TELL_EVERY_S", tell_every_s)
    asked = []

    def stop(done, _total, _text):
        asked.append(done)
        if done > 50:
            raise SystemExit

    first, again = Fragile(), Fragile()
    with pytest.raises(SystemExit):
        walk(tmp_path, first, progress=stop)
    assert len(asked) == first.calls if tell_every_s < 0 else len(asked) < first.calls
    same(walk(tmp_path, again), whole)
    assert first.calls + again.calls <= _CALLS[0] + 1


def test_of_slow_steps_a_signal_costs_no_more_than_the_one_it_meets(tmp_path, monkeypatch, whole):
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", 1e9)
    monkeypatch.setattr(engine, "TELL_EVERY_S", -1.0)
    first, again = Fragile(dies=20), Fragile()
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path, first)
    same(walk(tmp_path, again), whole)
    assert first.calls + again.calls <= _CALLS[0] + 2


def test_finished_md_is_read_back_without_a_calculation(tmp_path, whole):
    walk(tmp_path)
    potential = Fragile(dies=1)
    same(walk(tmp_path, potential), whole)
    assert potential.calls == 0
    assert not list(tmp_path.rglob("*.part"))


_SCRIPT = """
import sys, pathlib
sys.path.insert(0, {here!r})
from fragile import Fragile, walk
from ipip_ext.md import engine
engine.COMMIT_EVERY_S = 0.02
class Slow(Fragile):
    def compute(self, frames, *, stress=False):
        import time; time.sleep(0.01)
        return super().compute(frames, stress=stress)
walk(pathlib.Path(sys.argv[1]), Slow())
print("whole")
"""


def test_kill_minus_9_again_and_again(tmp_path, whole):
    script = _SCRIPT.format(here=str(Path(__file__).parents[1]))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    rng = np.random.default_rng(0)
    kills = 0
    for attempt in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], env=environment, stdout=subprocess.PIPE
        )
        if attempt < 4:
            _wait_for_news(tmp_path, process)
            time.sleep(rng.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
        told, _ = process.communicate(timeout=120)
        kills += process.returncode == -signal.SIGKILL
        if b"whole" in told:
            break
    assert kills >= 2
    same(walk(tmp_path), whole)


def _wait_for_news(folder, process):
    def age():
        return max((p.stat().st_mtime_ns for p in folder.rglob("state.npz")), default=0)

    before = age()
    while process.poll() is None and age() == before:
        time.sleep(0.005)
