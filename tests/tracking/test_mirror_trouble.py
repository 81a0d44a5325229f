"""A store that fails: one warning, and the run goes on."""

from __future__ import annotations

import logging
import sqlite3

import pytest
from tracked import all_runs, count_lines, emit, free_port, make_events

from ipip_ext.errors import UserError
from ipip_ext.recipe.recipe import Tracking
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
    replies = []
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        emit(folder, make_events(folder), MlflowMirror(folder, tracking, "mos2"), replies.append)
        other.execute("ROLLBACK")
    other.close()
    assert caplog.text.count("tracking stopped") == 1
    assert "locked" in caplog.text
    assert replies[-1].name == "finished"


def test_an_error_while_logging_stops_tracking_only(folder, tracking, caplog, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Ledger, "save", fail)
    emit(folder, make_events(folder), MlflowMirror(folder, tracking, "mos2"))
    assert caplog.text.count("tracking stopped: OSError: [Errno 30] Read-only file system.") == 1
