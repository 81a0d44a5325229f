"""Events: everything a run has to say, said once.

Stages emit events; the JSON-lines file in the run folder is the truth. The terminal, the log
file and MLflow are sinks that read the same stream.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ipip_ext.errors import WorkspaceError

log = logging.getLogger("ipip_ext")

Sink = Callable[["Event"], None]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    stage: folder of the stage relative to the run folder, "" for the run itself.
    step: epoch, MD step or None.
    data: whatever else belongs to the event, JSON-able.

    | kind     | name, value                                   | data                                 |
    |----------|-----------------------------------------------|--------------------------------------|
    | run      | started, finished, stopped (value: why)       | recipe (flat), versions, hardware, data_sha256, tags |
    | stage    | started, finished, reused, borrowed           | wall_s and what the stage says of itself; from |
    | metric   | key with its unit, number; `step` is the epoch|                                      |
    | progress | what is going on, share done in 0..1          | text to show                         |
    | row      | name of a model                               | role, stage, metrics (final, the same keys for all) |
    | artifact | what it is, path relative to the run folder   |                                      |
    | note     | one line for the reader                       |                                      |
    """

    kind: str
    name: str
    value: float | str | None = None
    stage: str = ""
    step: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)


class EventBus:
    """Hands each event to every sink.

    One that fails is dropped and the run goes on, unless the sink is `essential`: then the run ends, since an event
    that is lost is said again by no one.
    """

    def __init__(self, sinks: list[Sink] | None = None) -> None:
        self.sinks = list(sinks or [])

    def emit(self, event: Event) -> None:
        """Hand `event` to every sink. Raises WorkspaceError if an essential one fails.

        It does not for the event by which a run tells why it stops: that reason must not be hidden by another.
        """
        for sink in list(self.sinks):
            try:
                sink(event)
            except Exception as error:
                if getattr(sink, "essential", False) and (event.kind, event.name) != ("run", "stopped"):
                    if isinstance(error, WorkspaceError):
                        raise
                    raise WorkspaceError(f"{_sink_name(sink)} failed: {type(error).__name__}: {error}") from error
                self.sinks.remove(sink)
                log.warning("%s stopped: %s: %s", _sink_name(sink), type(error).__name__, error)


class JsonLines:
    """Appends events to a file, one JSON object a line, flushed at once."""

    SILENT = frozenset({"progress"})  # a bar's ticks are not history
    essential: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end_cut_line()

    def __call__(self, event: Event) -> None:
        """Append `event`. Raises WorkspaceError if the file can't be written."""
        if event.kind in self.SILENT:
            return
        line = json.dumps(asdict(event), sort_keys=True) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._end_cut_line()
            raise WorkspaceError(
                f"{self.path}: can't be written ({error.strerror}); all finished stages are intact. Mend that, and the"
                " same command goes on from there."
            ) from error

    def _end_cut_line(self) -> None:
        """End a line that a kill or a full disk has cut short, so that the next event has one of its own."""
        if self.path.exists() and self.path.stat().st_size and not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n")


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events in `path`; a line cut short by a kill, or one that is none, is passed over."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield Event(**json.loads(line))
        except (json.JSONDecodeError, TypeError, RecursionError):
            log.warning("%s: passed over a line that is not an event", path)


def _sink_name(sink: Sink) -> str:
    return getattr(sink, "__name__", type(sink).__name__)
