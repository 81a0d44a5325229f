"""The far side of `outside.py`: carry out one request. `python -m ipip_ext.run.job REQUEST`.

It makes the call that the run's process would make, speaks into files beside the request, and leaves the stage's
folder for the run's process to promote. It ends by itself once the run that has asked for it is another's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ipip_ext.errors import DeviceLost, IpipError, JobLost
from ipip_ext.run import disk, lock, parts, provenance, request
from ipip_ext.run.carry_out import compute
from ipip_ext.run.events import Event, EventBus, log
from ipip_ext.run.hearing import EVENTS
from ipip_ext.run.outside import BEAT, LATE_S, LOG, RESULT, RUNNING
from ipip_ext.run.stage import Context, Done, Outputs, Surroundings

_BEAT_S = 1.0
_PROGRESS_S = 0.2


class _Unmade(BaseException):
    """Parts are to be made first. No Exception, since no stage is to catch it."""

    def __init__(self, wanted: list[Any]) -> None:
        super().__init__()
        self.wanted = wanted


def serve(path: Path) -> bool:
    """Carry out the request in `path`; return whether this process may take another.

    Whatever happens is told in `result.json` beside it.
    """
    folder = path.absolute().parent
    result: dict[str, Any] = {}
    is_fit = True
    with _printing_to(folder / LOG), _working_folder():
        try:
            result = _carry_out(path, folder)
        except _Unmade as unmade:
            result = {"parts": unmade.wanted}
        except Exception as error:  # noqa: BLE001 - told to the run's process, which raises it
            if not isinstance(error, IpipError):
                traceback.print_exc()
            result, is_fit = {"error": _told(error)}, not isinstance(error, DeviceLost)
    disk.write(folder / RESULT, json.dumps(result))
    return is_fit


def serve_here(path: str) -> None:
    """Carry out the request in `path` in a worker that serves others too; end one that is fit for no other.

    Raises JobLost where this machine doesn't see it.
    """
    until = time.monotonic() + LATE_S
    while not Path(path).exists():
        if time.monotonic() > until:
            raise JobLost(
                f"{provenance.host()} doesn't see {path}; jobs need a file system that they share with the run"
            )
        time.sleep(0.1)
    if not serve(Path(path)):
        os._exit(1)


def _carry_out(path: Path, folder: Path) -> dict[str, Any]:
    import torch

    call, around = request.read(path)
    if around.threads is not None:
        torch.set_num_threads(around.threads)
    where = {"host": provenance.host(), "pid": os.getpid(), "since": time.time()}
    disk.write(folder / RUNNING, json.dumps(where))
    said = _Said(folder / EVENTS)
    with _alive(folder / BEAT, around), _logging_to(said):
        compute(call, around, EventBus([said]), _ask_for_parts)
    return {}


def _told(error: Exception) -> dict[str, str]:
    if trouble := disk.trouble(error):
        return {"kind": OSError.__name__, "message": trouble}
    return {"kind": type(error).__name__, "message": str(error)}


def _ask_for_parts(
    ctx: Context, stage: Callable[..., Outputs], wanted: Mapping[str, Mapping[str, Any]], executor: str
) -> dict[str, Done]:
    """Return the parts of a stage if they stand, else leave word of those that don't and end the stage."""
    calls = parts.calls(ctx, stage, wanted, executor)
    found = {name: parts.finished(call) for name, call in calls.items()}
    unmade = [calls[name] for name, done in found.items() if done is None]
    if unmade:
        raise _Unmade([request.told_of(call) for call in unmade])
    return {name: done for name, done in found.items() if done is not None}


class _Said:
    """A sink: appends to the file that the run's process reads, ticks of a bar only now and then."""

    essential = True

    def __init__(self, path: Path) -> None:
        self._path, self._ticked = path, 0.0

    def __call__(self, event: Event) -> None:
        if event.kind == "progress":
            if time.monotonic() - self._ticked < _PROGRESS_S and event.value != 1.0:
                return
            self._ticked = time.monotonic()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(event)) + "\n")


@contextlib.contextmanager
def _logging_to(said: _Said) -> Iterator[None]:
    """Have the run's process log what this package's logger is told here."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said(Event("log", record.getMessage(), record.levelname))

    handler, passes_on = Handler(), log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = passes_on


@contextlib.contextmanager
def _alive(beat: Path, around: Surroundings) -> Iterator[None]:
    """Show each second that this process lives, and end it if the run's folder has become another's."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_BEAT_S):
            with contextlib.suppress(OSError):
                beat.touch()
            if around.owner and not lock.is_held_by(around.root, around.owner):
                os._exit(1)

    beat.touch()
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Have all that is printed, by whatever library, appended to `path`."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, kept in enumerate(before, start=1):
            os.dup2(kept, number)
            os.close(kept)


@contextlib.contextmanager
def _working_folder() -> Iterator[None]:
    before = os.getcwd()  # noqa: PTH109
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
