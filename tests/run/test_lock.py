"""One writer a folder: who holds it is told, and what a crash left behind is known for what it is."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alloy import write_recipe
from processes import hold

from ipip_ext.errors import WorkspaceError
from ipip_ext.run import lock
from ipip_ext.run.lock import LOCK


def forge(folder: Path, **changes: object) -> lock.Holder:
    """Leave a lock as another process would have; it is held by this one but for the `changes`."""
    with lock.held(folder):
        holder = lock.read(folder / LOCK)
    assert holder is not None
    forged = dataclasses.replace(holder, **changes)
    (folder / LOCK).write_text(json.dumps(dataclasses.asdict(forged)))
    return forged


def test_it_is_given_back_and_leaves_nothing(tmp_path):
    for _ in range(2):
        with lock.held(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == [LOCK]
        assert not list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError), lock.held(tmp_path):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_another_process_is_named_and_its_end_frees_the_folder(tmp_path):
    with hold(tmp_path) as other:
        with pytest.raises(WorkspaceError, match=rf"in use by process {other.pid} of .* on .* since 20.*: -c") as told:
            lock.refuse_if_held(tmp_path)
        assert "delete" not in str(told.value)  # here it can be told whether it lives
        with pytest.raises(WorkspaceError, match=f"process {other.pid}"), lock.held(tmp_path):
            pass
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
        other.kill()
    lock.refuse_if_held(tmp_path)
    with lock.held(tmp_path):
        assert lock.read(tmp_path / LOCK).pid == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_killed_process_that_nobody_has_waited_for_holds_nothing(tmp_path):
    other = hold(tmp_path)
    other.send_signal(signal.SIGKILL)
    stat = Path(f"/proc/{other.pid}/stat")
    while stat.exists() and ") Z " not in stat.read_text():
        time.sleep(0.01)
    with lock.held(tmp_path):
        pass
    other.communicate()


@pytest.mark.parametrize("changes", [{"started": "1"}, {"boot": "another"}, {"job": "7", "host": "node2"}])
def test_what_is_gone_by_its_own_words_gives_way(tmp_path, monkeypatch, changes):
    """Its process id was given to another process; the machine was started anew; its job was requeued."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    forge(tmp_path, **changes)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with lock.held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [{"host": "node2"}, {"machine": "another", "boot": "another"}, {"space": "pid:[1]", "pid": 1, "started": "1"}],
)
def test_where_it_cannot_be_told_it_holds_and_says_how_to_go_on(tmp_path, monkeypatch, changes):
    """Another machine, one of the same name, a container; age would say nothing."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    forge(tmp_path, since="2001-01-01 00:00:00 +0000", job="6", **changes)
    os.utime(tmp_path / LOCK, (0, 0))
    for _ in range(2):
        with pytest.raises(WorkspaceError, match=r"can't be told from here, delete .*lock\.json"):
            lock.refuse_if_held(tmp_path)
    (tmp_path / LOCK).unlink()
    with lock.held(tmp_path):
        pass


@pytest.mark.parametrize("text", ["{", "[]", "{}", "\x00"])
def test_a_file_that_is_no_lock_is_refused(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(WorkspaceError, match=r"lock\.json: is no lock"), lock.held(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == text


def test_of_many_that_find_a_stale_lock_one_at_a_time_goes_on(tmp_path):
    """Each writes a line twice and dies; were two at work at once, the lines would be mixed."""
    code = """
import os, sys, time
from pathlib import Path
from ipip_ext.run import lock
from ipip_ext.errors import WorkspaceError
folder, name = Path(sys.argv[1]), sys.argv[2]
while True:
    try:
        with lock.held(folder), (folder / "log").open("a") as log:
            log.write(name + "\\n"); log.flush(); time.sleep(0.01); log.write(name + "\\n"); log.flush()
            os._exit(0)
    except WorkspaceError:
        time.sleep(0.001)
"""
    forge(tmp_path, started="1")
    others = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(i)]) for i in range(6)]
    assert [other.wait() for other in others] == [0] * 6
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[::2] == lines[1::2]
    assert sorted(lines[::2]) == [str(i) for i in range(6)]
    assert {path.name for path in tmp_path.iterdir()} == {"log", LOCK}


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_links(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with lock.held(tmp_path):
        with pytest.raises(WorkspaceError, match="in use"), lock.held(tmp_path):
            pass
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert not list(tmp_path.iterdir())
    forge(tmp_path, started="1")
    with lock.held(tmp_path):
        pass


def test_an_answer_lost_on_the_way_from_the_server(tmp_path, monkeypatch):
    """NFS may have made the link and say that it was there."""
    link = os.link

    def lose(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError

    monkeypatch.setattr(os, "link", lose)
    with lock.held(tmp_path):
        assert lock.read(tmp_path / LOCK).pid == os.getpid()


# ---- runs ----


def ipip(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ipip_ext.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["run", "ablate"])
def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path, alloy_data, how):
    write_recipe(
        tmp_path, alloy_data, iterations=1, tracking__enabled=False, explore__n_steps=2000, pretrain__epochs=2000,
        baselines=[],
    )  # fmt: skip
    words = [how, "recipe.yaml", *(["--vary", "finetune.lr=0.001,0.01", "--seeds", "1"] if how == "ablate" else [])]
    command = [sys.executable, "-m", "ipip_ext.cli", *words]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list(tmp_path.glob("runs/**/explore.part")):
            assert first.poll() is None
            time.sleep(0.05)
        folder = next(tmp_path.glob("runs/**/explore.part")).parent
        others = [words, ["run", "recipe.yaml", "--workdir", str(folder), "--redo", "explore"]]
        for other in others:
            refused = ipip(*other, cwd=tmp_path)
            assert refused.returncode == 2, refused.stderr
            assert f"is in use by process {first.pid}" in refused.stderr
            assert "cli.py" in refused.stderr or how in refused.stderr
            assert "Traceback" not in refused.stderr
    finally:
        first.kill()
        first.wait()
    short = ["--set", "pretrain.epochs=2", "--set", "explore.n_steps=40", "--set", "finetune.epochs=1"]
    whole = ipip(*words, "--redo", "explore", *short, cwd=tmp_path) if how == "run" else None
    assert whole is None or whole.returncode == 0, whole.stderr
    assert whole is None or not list(tmp_path.glob("runs/**/lock.json*"))
    lock.refuse_if_held(folder)
    lock.refuse_if_held(folder.parent.parent)
