"""What the mirror has read: the lines of a growing file, and the points of curves that it has logged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ipip_ext.run.events import Event
from ipip_ext.tracking.entries import Entry


class Tail:
    """Reads a growing file of events; each is handed out once, when its line is complete."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> Iterator[Event]:
        """Yield the events since the last call; raise OSError when the file can't be read."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        for line in text.splitlines():
            with suppress(ValueError, TypeError, RecursionError):  # cut short by a kill; whoever reads the file says so
                yield Event(**json.loads(line))


class Seen:
    """Points of curves already mirrored, so that what a resumed run says again isn't logged again."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str, int], float] = {}

    def new(self, entry: Entry) -> dict[str, float]:
        """Return the metrics of `entry` that are new or have changed, and remember them."""
        fresh = {}
        for key, value in entry.metrics.items():
            point = (entry.run, key, entry.step)
            if point not in self._last or not _same(self._last[point], value):
                self._last[point] = fresh[key] = value
        return fresh


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
