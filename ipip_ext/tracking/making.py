"""One store, whoever comes first: runs that begin together in a folder without one make it once."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ipip_ext.run import disk

log = logging.getLogger("ipip_ext")

LOCK = ".lock"
"""What the name of the lock beside a store's file ends with."""
WAIT_S = 60.0
"""How long another process may take to make the store, or to look for its experiment there."""
TOLD_AFTER_S = 20.0
_LOOK_EVERY_S = 0.1
_JOURNALS = ("-journal", "-wal", "-shm")
"""Files of sqlite's beside one that it was killed at."""


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Hold the lock of a store's file for the time of a with block, when whoever has it has given it back.

    The system gives back the lock of a process that is gone. Where files can't be locked there is none.
    Raises TimeoutError if another process keeps it.
    """
    path = file.with_name(file.name + LOCK)
    handle = _locked(path)
    try:
        yield
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is held: whoever gets hold of what has no name any more looks again
            os.close(handle)


def make(file: Path, fill: Callable[[Path], object]) -> None:
    """Make a store's file whole or not at all, unless it is there.

    fill: makes the tables in the file that it is given. A process that is killed amid that leaves a store that MLflow
    can neither use nor mend, so it is done beside `file`. Raises what `fill` and the disk raise.
    """
    if file.is_file() and file.stat().st_size:
        return
    part = file.with_name(file.name + disk.PART)
    _clear(part)
    try:
        fill(part)
        os.replace(part, file)
    finally:
        _clear(part)


def _clear(part: Path) -> None:
    for ending in ("", *_JOURNALS):
        part.with_name(part.name + ending).unlink(missing_ok=True)


def _locked(path: Path) -> int | None:
    start, told = time.monotonic(), False
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BlockingIOError:
            waited_s = time.monotonic() - start
            if waited_s > WAIT_S:
                os.close(handle)
                raise TimeoutError(f"another process has held {path} for {WAIT_S:.0f} s.") from None
            if waited_s > TOLD_AFTER_S and not told:
                log.warning("waiting for another process, which is making MLflow's store and holds %s", path)
                told = True
            time.sleep(_LOOK_EVERY_S)
        except OSError:
            return handle
        os.close(handle)
