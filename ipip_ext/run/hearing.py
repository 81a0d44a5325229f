"""What a job says, as it comes: the near side of the events that `run/job.py` writes.

How far one has heard is kept beside them, so that a run that goes on after a kill says what the one before had no time
to, and nothing twice but what it was about to say.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from ipip_ext.run.carry_out import job_of
from ipip_ext.run.events import Event, log

EVENTS = "events.jsonl"
_HEARD = "heard"


class Ear:
    """Hears the job whose folder is `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._heard = self._kept = _kept(folder)

    def events(self) -> Iterator[Event]:
        """Yield what is new; what a logger has, is logged."""
        for line in self._lines():
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                event = Event(**json.loads(line))
                if event.kind == "log":
                    log.log(logging.getLevelNamesMapping().get(str(event.value), logging.WARNING), "%s", event.name)
                else:
                    yield event

    def _lines(self) -> list[str]:
        if self._heard != self._kept:  # by now, what was heard last has been passed on
            self._kept = self._heard
            with contextlib.suppress(OSError):
                (self._folder / _HEARD).write_text(str(self._kept), encoding="utf-8")
        try:
            with (self._folder / EVENTS).open("rb") as file:
                file.seek(self._heard)
                new = file.read()
        except OSError:
            return []
        whole = new[: new.rfind(b"\n") + 1]  # the rest is read again when its line has an end
        self._heard += len(whole)
        return whole.decode("utf-8", errors="replace").splitlines()


def left_by(folder: Path) -> Iterator[Event]:
    """Yield what a job that made the stage's `folder` for a run that is gone has said to nobody; forget that job."""
    job = job_of(folder)
    if job.exists():
        yield from Ear(job).events()
        shutil.rmtree(job, ignore_errors=True)


def _kept(folder: Path) -> int:
    try:
        return max(0, int((folder / _HEARD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return 0
