"""The terminal and the log file: two more sinks of the same events."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
from tqdm import tqdm

from ipip_ext.run.events import Event
from ipip_ext.run.printable import printable

_EVERY_S = 10.0
"""Seconds between plain progress lines."""


class LogFile:
    """Everything, one line an event, in `log.txt`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last_progress = 0.0

    def __call__(self, event: Event) -> None:
        """Write a line; progress only every `_EVERY_S`."""
        if event.kind == "progress":
            if time.monotonic() - self.last_progress < _EVERY_S:
                return
            self.last_progress = time.monotonic()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {_sentence(event)}\n")


class Console:
    """A bar with an ETA for the stage at work on a terminal; plain lines now and then elsewhere."""

    def __init__(self) -> None:
        self.tty = sys.stderr.isatty()
        self.bar: tqdm | None = None
        self.last_line = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Show what concerns someone who watches."""
        if event.kind == "progress":
            self._advance(event)
        elif event.kind == "stage":
            self.close()
            self.last_line = time.monotonic()
            self._say(_sentence(event))
        elif event.kind in ("note", "run"):
            self._say(_sentence(event))

    def _advance(self, event: Event) -> None:
        text = printable(event.data.get("text", ""))
        if self.tty:
            if self.bar is None:
                form = "{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}"
                self.bar = tqdm(total=1.0, desc=f"  {event.stage}", bar_format=form, leave=False, miniters=0)
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(float(event.value or 0.0) - self.bar.n)
        elif time.monotonic() - self.last_line > _EVERY_S:
            self.last_line = time.monotonic()
            self._say(_sentence(event))

    def _say(self, text: str) -> None:
        if self.tty:
            tqdm.write(text, file=sys.stderr)
        else:
            click.echo(text, err=True)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _sentence(event: Event) -> str:
    where = f"{event.stage}: " if event.stage else ""
    known = _SENTENCES.get(event.kind)
    return printable(known(event) if known is not None else where + event.name)


def _stage(event: Event) -> str:
    took = f" in {event.data['wall_s']:.0f} s" if "wall_s" in event.data else ""
    return f"{event.stage} {event.name}{took}"


def _metric(event: Event) -> str:
    step = f" [{event.step}]" if event.step is not None else ""
    where = f"{event.stage}: " if event.stage else ""
    return f"{where}{event.name}{step} = {event.value:.6g}"


def _progress(event: Event) -> str:
    return f"{event.stage}: {float(event.value or 0) * 100:3.0f} %  {event.data.get('text', '')}"


def _row(event: Event) -> str:
    return f"{event.name}: " + ", ".join(f"{key}={value:.4g}" for key, value in event.data["metrics"].items())


_SENTENCES: dict[str, Callable[[Event], str]] = {
    "stage": _stage,
    "metric": _metric,
    "progress": _progress,
    "row": _row,
    "run": lambda event: f"run {event.name}" + (f": {event.value}" if event.value else ""),
    "artifact": lambda event: f"wrote {event.value}",
}
