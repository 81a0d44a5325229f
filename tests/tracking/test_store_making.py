"""Runs that begin together in a folder without a store."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest
from tracked import all_runs, count_lines, emit, make_events

from ipip_ext.recipe.tracking import Tracking
from ipip_ext.tracking import making
from ipip_ext.tracking.mirror import MlflowMirror, replay

CODE = (
    "import sys; from pathlib import Path\n"
    "from ipip_ext.recipe.recipe import Tracking; from ipip_ext.tracking.mirror import MlflowMirror\n"
    "folder = Path(sys.argv[1])\n"
    "print('ready', flush=True); sys.stdin.readline()\n"
    "mirrored = MlflowMirror(folder, Tracking(), folder.name).catch_up()\n"
    "print(mirrored)\n"
)


@pytest.mark.slow
def test_runs_that_begin_together_make_one_store(tmp_path):
    folders = [tmp_path / "runs" / name for name in "abc"]
    others = []
    for folder in folders:
        folder.mkdir(parents=True)
        events = [event for event in make_events(folder) if event.name != "lost"]
        emit(folder, events)
        others.append(
            subprocess.Popen([sys.executable, "-c", CODE, folder], cwd=tmp_path, text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )  # fmt: skip
    for other in others:
        assert other.stdout.readline() == "ready\n"
    for other in others:
        other.stdin.write("\n")
        other.stdin.flush()
    said = [other.communicate() for other in others]
    assert said == [(f"{count_lines(folder)}\n", "") for folder in folders]
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "mlflow.db", "mlartifacts"}
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiments = [one.experiment_id for one in client.search_experiments() if one.name == "ipip-mace"]
    parents = [run.info.run_name for run in client.search_runs(experiments) if run.data.tags["role"] == "ipip"]
    assert (len(experiments), sorted(parents)) == (1, ["a", "b", "c"])


def test_whoever_comes_later_waits(tmp_path):
    order = []

    def second():
        with making.alone(tmp_path / "mlflow.db"):
            order.append("second")

    with making.alone(tmp_path / "mlflow.db"):
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.5)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    assert not list(tmp_path.iterdir())


def test_a_lock_that_is_never_given_back_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(making, "WAIT_S", 0.5)
    monkeypatch.setattr(making, "TOLD_AFTER_S", 0.1)
    handle = os.open(tmp_path / "mlflow.db.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(TimeoutError, match=r"has held .*mlflow\.db\.lock"), making.alone(tmp_path / "mlflow.db"):
        pass
    assert caplog.text.count("waiting for another process") == 1
    os.close(handle)  # as the system does for a process that is gone
    with making.alone(tmp_path / "mlflow.db"):
        assert (tmp_path / "mlflow.db.lock").is_file()


def test_a_kill_while_the_store_is_made_leaves_none(tmp_path, folder):
    """MLflow can use no store whose tables were being made, so there must be none under that name."""
    (tmp_path / "mlflow.db.part").write_text("half")
    (tmp_path / "mlflow.db.part-journal").write_text("half")
    tracking = Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db")
    emit(folder, make_events(folder), MlflowMirror(folder, tracking, "mos2"))
    assert len(all_runs(tracking)) == 5
    assert replay(folder, tracking) == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("mlflow.db.")]


def test_a_store_that_can_not_be_made_leaves_nothing(tmp_path):
    def fail(part):
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        making.make(tmp_path / "mlflow.db", fail)
    assert not list(tmp_path.iterdir())
