"""A store that fails: one warning, and the run goes on."""

from __future__ import annotations

import json
import logging
import sqlite3

import pytest
from tracked import EPOCHS, FINAL, all_runs, count_lines, emit, free_port, history, make_events

from ipip_ext.errors import UserError
from ipip_ext.recipe.tracking import Tracking
from ipip_ext.tracking import mirror, store
from ipip_ext.tracking.ledger import Ledger
from ipip_ext.tracking.mirror import MlflowMirror, replay


def test_an_unreachable_server_costs_one_warning_and_replay_has_it_all(folder, tracking, caplog):
    dead = Tracking(uri=f"http://127.0.0.1:{free_port()}")
    emit(folder, make_events(folder), MlflowMirror(folder, dead, "mos2"))
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert f"ipip-mace track {folder}" in warnings[0]
    assert replay(folder, tracking) == count_lines(folder)
    assert len(all_runs(tracking)) == 5
    with pytest.raises(UserError, match="can't be used") as raised:
        replay(folder, dead)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_database_is_told_at_once(folder, tmp_path, caplog):
    (tmp_path / "bad.db").write_text("not a database" * 100)
    bad = Tracking(uri=f"sqlite:///{tmp_path}/bad.db")
    emit(folder, make_events(folder), MlflowMirror(folder, bad, "mos2"))
    assert "not a database" in caplog.text
    with pytest.raises(UserError, match="not a database"):
        replay(folder, bad)


def test_a_locked_database_stops_tracking_only(folder, tracking, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(store, "BUSY_S", 0.1)
    replies = []
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        emit(folder, make_events(folder), MlflowMirror(folder, tracking, "mos2"), replies.append)
        other.execute("ROLLBACK")
    other.close()
    assert caplog.text.count("tracking stopped") == 1
    assert "locked" in caplog.text
    assert replies[-1].name == "finished"


def test_a_store_that_fails_once_is_tried_again_at_the_end_of_a_stage(folder, tracking, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(store, "BUSY_S", 0.1)
    monkeypatch.setattr(mirror, "FLUSH_SHARE", 1e9)
    monkeypatch.setattr(mirror, "FLUSH_EVERY_S", 0.0)
    events = [event for event in make_events(folder) if event.name != "lost"]
    ends = [i for i, event in enumerate(events) if (event.kind, event.name) == ("stage", "finished")][1]
    sink = MlflowMirror(folder, tracking, "mos2")
    other = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    emit(folder, events[: ends - 3], sink)
    other.execute("ROLLBACK")
    other.close()
    emit(folder, events[ends - 3 : ends + 1], sink)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["tracking stopped", "tracking goes on"]
    (mine,) = json.loads((folder / "tracking.json").read_text()).values()
    assert mine["mirrored"] == count_lines(folder)
    emit(folder, events[ends + 1 :], sink)
    points = history(tracking, all_runs(tracking)["iteration 0"], "work.pretrain.valid_force_mae_meV_per_A")
    assert points == [(epoch, 100.0 - epoch) for epoch in range(EPOCHS)]
    assert replay(folder, tracking) == 0


def test_a_run_looks_for_its_store_once_more_before_it_ends(folder, tracking, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BUSY_S", 0.1)
    events = make_events(folder)
    sink = MlflowMirror(folder, tracking, "mos2")
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        emit(folder, events[:-1], sink)
        other.execute("ROLLBACK")
    other.close()
    emit(folder, events[-1:], sink)
    assert all_runs(tracking)["mos2"].info.status == "FINISHED"
    assert replay(folder, tracking) == 0


def test_an_attempt_that_ended_amid_logging_is_repeated_without_duplicates(folder, tracking, monkeypatch, caplog):
    """Metrics are in the store, but the ledger does not know it."""
    save, failed = Ledger.save, []

    def fails_once(ledger):
        if ledger.mirrored > 8 and not failed:
            failed.append(True)
            raise OSError(5, "Input/output error")
        save(ledger)

    monkeypatch.setattr(mirror, "FLUSH_SHARE", 1e9)
    monkeypatch.setattr(mirror, "FLUSH_EVERY_S", 0.0)
    monkeypatch.setattr(Ledger, "save", fails_once)
    emit(
        folder, [event for event in make_events(folder) if event.name != "lost"], MlflowMirror(folder, tracking, "mos2")
    )
    assert [record.message.partition(":")[0] for record in caplog.records] == ["tracking stopped", "tracking goes on"]
    runs = all_runs(tracking)
    for i in range(2):
        points = history(tracking, runs[f"iteration {i}"], "work.pretrain.valid_force_mae_meV_per_A")
        assert points == [(epoch, 100.0 - epoch - i) for epoch in range(EPOCHS)]
    assert all(len(history(tracking, run, key)) == 1 for run in runs.values() for key in FINAL)


def test_a_database_that_breaks_says_one_line_and_no_traceback(folder, tracking, tmp_path, caplog, capfd):
    """MLflow logs a traceback of sixty lines for it."""
    events = [event for event in make_events(folder) if event.name != "lost"]
    sink = MlflowMirror(folder, tracking, "mos2")
    emit(folder, events[:4], sink)
    with sqlite3.connect(tmp_path / "mlflow.db") as other:
        other.execute("DROP TABLE latest_metrics")
    other.close()
    emit(folder, events[4:], sink)
    (said,) = [record.message for record in caplog.records]
    assert said.startswith("tracking stopped: MlflowException: ")
    assert "no such table" in said
    assert capfd.readouterr().err == ""


def test_an_error_while_logging_stops_tracking_only(folder, tracking, caplog, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Ledger, "save", fail)
    emit(folder, make_events(folder), MlflowMirror(folder, tracking, "mos2"))
    assert caplog.text.count("tracking stopped: OSError: [Errno 30] Read-only file system.") == 1
