"""The event log is the truth: an event that can't be written ends the run, any other sink may fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipip_ext.errors import WorkspaceError
from ipip_ext.run.events import Event, EventBus, JsonLines, read_events

FULL = Path("/dev/full")
"""What Linux has for a full disk."""


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_an_event_that_cannot_be_written_ends_the_run(caplog):
    seen: list[str] = []
    bus = EventBus([lambda event: seen.append(event.name), JsonLines(FULL)])
    bus.emit(Event("progress", "no history", 0.5))
    for _ in range(2):  # whoever swallows it once meets it again
        with pytest.raises(
            WorkspaceError, match=r"/dev/full: can't be written \(No space left on device\); all finished"
        ):
            bus.emit(Event("stage", "finished"))
    bus.emit(Event("run", "stopped", "StageFailed: why"))  # this must not hide why
    assert seen == ["no history", "finished", "finished", "stopped"]
    assert "JsonLines stopped" in caplog.text


def test_another_sink_that_fails_is_dropped_and_said_once(tmp_path, caplog):
    def broken(_event: Event) -> None:
        raise OSError(28, "No space left on device")

    bus = EventBus([broken, JsonLines(tmp_path / "events.jsonl")])
    for name in ("started", "finished"):
        bus.emit(Event("run", name))
    assert [event.name for event in read_events(tmp_path / "events.jsonl")] == ["started", "finished"]
    assert caplog.text.count("broken stopped") == 1


def test_a_line_cut_short_costs_no_other(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "no')
    JsonLines(path)(Event("note", "whole"))
    assert [event.name for event in read_events(path)] == ["whole"]
