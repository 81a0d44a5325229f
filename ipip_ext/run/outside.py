"""A call that another process carries out: how it is asked for, heard and ended, wherever that process is.

The two tell each other by files in a folder beside the unfinished stage, which both see: `request.json` from here; from
there `running.json` (where it runs), `events.jsonl` (what the stage says), `log.txt` (all that it prints) and at last
`result.json`. So it doesn't matter to either how the other was started.
"""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ipip_ext import errors
from ipip_ext.errors import JobLost, StageFailed
from ipip_ext.run import request
from ipip_ext.run.carry_out import job_of
from ipip_ext.run.events import Event
from ipip_ext.run.hearing import Ear
from ipip_ext.run.stage import Call, Surroundings

HERE = "here"
"""The executor that is the run's own process."""

REQUEST, RUNNING, LOG, RESULT, BEAT = "request.json", "running.json", "log.txt", "result.json", "beat"

LATE_S = 5.0
"""Seconds that a file may take to be seen by the other side: network file systems look now and then."""

_WAITS_S = 60.0
"""Seconds without a place after which that is said."""

_LAST_LINES = 5


class Job(Protocol):
    """A process's work on one request."""

    @property
    def where(self) -> str:
        """What of it may be asked of the machine: a process id, a batch system's job id."""

    def is_gone(self) -> bool:
        """Whether nothing works on it any more."""

    @property
    def fate(self) -> str:
        """How it ended, where it has left no result."""


class Place(Protocol):
    """Where jobs run."""

    def executor_of(self, call: Call) -> str:
        """Return the name of the executor that carries `call` out."""

    def has_room(self, executor: str) -> bool:
        """Return whether one more may be started there."""

    def start(self, request: Path, executor: str) -> Job:
        """Start a process on a request, or hand it to one that waits. Raises CalculatorError, RecipeError, JobLost."""

    def tell(self, waiting: Sequence[str], running: Mapping[str, Dispatch]) -> None:
        """Take note of what waits and what runs, for who asks where the run stands."""

    def stop(self) -> None:
        """End all that is at work."""


class Wanted(Exception):
    """A stage wants parts before it can go on."""

    def __init__(self, calls: Sequence[Call]) -> None:
        super().__init__()
        self.calls = calls


@dataclass(frozen=True)
class Told:
    """Where a job says that it runs."""

    host: str
    pid: int
    since: float


class Dispatch:
    """A call on its way, with as many attempts as it takes."""

    def __init__(self, call: Call, around: Surroundings, place: Place, executor: str, retries: int) -> None:
        self.call, self.executor = call, executor
        self._around, self._place, self._left = around, place, retries
        self.folder = job_of(call.folder)
        self.begun = time.time()
        self._said: list[Event] = []
        self._is_told = False
        self._start()

    def heard(self) -> Iterator[Event]:
        """Yield what the stage has said since; what a logger has, is logged."""
        yield from self._said
        self._said.clear()
        yield from self._ear.events()

    def is_over(self) -> bool:
        """Return whether its result is there; start another attempt if its process has died without one.

        Raises what the stage raised, Wanted if it needs parts first, JobLost if too many processes have died.
        """
        result = self._result()
        if result is not None:
            return self._judge(result)
        if not self.job.is_gone():
            self._say_that_it_waits()
            return False
        late = time.monotonic() + LATE_S
        while (result := self._result()) is None and time.monotonic() < late:
            time.sleep(0.1)
        if result is not None:
            return self._judge(result)
        words = f"its process ({self.job.where}) {self.job.fate}{self._last_words()}"
        if self._left == 0:
            raise JobLost(f"{self.call.name}: {words}. All that is finished is kept; the same command goes on.")
        self._left -= 1
        self._said += self._ear.events()
        self._say(f"{words}; it goes on in another")
        self._start()
        return False

    def forget(self) -> None:
        """Remove its folder: all that it has said is passed on."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def told(self) -> Told | None:
        """Return where it runs, None as long as nothing has begun to."""
        try:
            return Told(**json.loads((self.folder / RUNNING).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _start(self) -> None:
        self.forget()
        self.folder.mkdir(parents=True)
        request.write(self.folder / REQUEST, self.call, self._around)
        self._ear = Ear(self.folder)
        self.job = self._place.start(self.folder / REQUEST, self.executor)

    def _say_that_it_waits(self) -> None:
        """Say once that it has no place yet."""
        if not self._is_told and time.time() - self.begun > _WAITS_S and self.told() is None:
            self._is_told = True
            self._say(f"waits for a place on executor {self.executor} ({self.job.where})")

    def _say(self, text: str) -> None:
        self._said.append(Event("note", text, stage=self.call.said_as))

    def _result(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.folder / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def _judge(self, result: Mapping[str, Any]) -> bool:
        if "parts" in result:
            raise Wanted([request.call_of(told) for told in result["parts"]])
        if "error" in result:
            raise self._raised(**result["error"])
        return True

    def _raised(self, kind: str, message: str) -> Exception:
        """Return the error that the stage raised, as if it had raised it here."""
        if kind == OSError.__name__:
            return OSError(errno.ENOSPC, message)
        if not hasattr(errors, kind):
            return StageFailed(f"{self.call.name}: {kind}: {message}; what led to it stands in {self.folder / LOG}.")
        return errors.raised(kind, message)

    def _last_words(self) -> str:
        try:
            lines = (self.folder / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        last = [line.strip() for line in lines if line.strip()][-_LAST_LINES:]
        return f", having said: {' | '.join(last)}" if last else ""
