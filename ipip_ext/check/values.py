"""Whether the numbers in a stage's record are those that the stage said when it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipip_ext.run.events import read_events
from ipip_ext.run.layout import EVENTS
from ipip_ext.run.record import RECORD


def changed(folder: Path, records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the first value in a record that `events.jsonl` tells otherwise, "" if there is none.

    records: those of the finished stages of the run in `folder`, by name. Stages of whose end no event tells, such as
    those copied from another run, are passed over.
    """
    said = _said(folder)
    for name, record in records.items():
        now = {"wall_s": record.get("wall_s"), **record["values"]}
        then = said.get(name, now)
        for key in sorted({*now, *then}):
            if json.dumps(now.get(key), sort_keys=True) != json.dumps(then.get(key), sort_keys=True):
                return f"{name}: {key} is {now.get(key)} in {RECORD} and was {then.get(key)}"
    return ""


def _said(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what each stage said when it last ended: a kill may come between its end and its event."""
    found: dict[str, dict[str, Any]] = {}
    for event in read_events(folder / EVENTS):
        if event.kind == "stage" and event.name == "finished":
            found[event.stage] = event.data
        elif event.kind == "stage" and event.name in ("started", "borrowed"):
            found.pop(event.stage, None)
    return found
