"""Stopping on request: SIGTERM, SIGINT and SIGUSR1 end a run at its next safe point, within seconds.

A safe point is an event that stages emit when what they have is on disk: the end of an epoch, kept frames, a label, a
finished stage. Where none comes in time, the run is interrupted where it stands, which costs what a kill costs: back
to the last checkpoint.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from ipip_ext.run.events import Event

GRACE_S = 5.0
"""Seconds that a safe point may take to come."""

_REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""From batch systems at the end of an allocation, from the keyboard, and from SLURM's `--signal=USR1`."""

_PR_SET_PDEATHSIG = 1

_MEANT_S = 1.0
"""A second Ctrl-C after this long is meant; before, the terminal and a wrapper may both have passed on one."""


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, as by Ctrl-C. signum: by which signal.

    has_begun: whether its folder knows by now what is to be done, a redo too.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"signal {signal.Signals(signum).name}")
        self.signum = signum
        self.has_begun = False

    @property
    def exit_code(self) -> int:
        """What shells and batch systems expect of a process that a signal has ended."""
        return 128 + self.signum


class _Requests:
    """What this process was asked for. Signals are a matter of the whole process, so there is one of these."""

    signum: int | None = None
    asked_s: float = 0.0


_asked = _Requests()


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let signals raise Stopped in this block, at a safe point or after `GRACE_S`.

    Signals that were ignored before, as in a shell's background job, stay so. Does nothing outside of the main thread,
    where Python handles no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in (*_REQUESTS, signal.SIGALRM)}
    for signum in _REQUESTS:
        if before[signum] is not signal.SIG_IGN:
            signal.signal(signum, _ask)
    signal.signal(signal.SIGALRM, _interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _asked.signum = None
        for signum, handler in before.items():
            signal.signal(signum, handler)


def at_safe_points(event: Event) -> None:
    """Raise Stopped if that was asked for and `event` is a safe point. A sink; the first, so that none is half done."""
    if _asked.signum is not None and event.kind in ("progress", "stage"):
        _stop()


def end_with(parent: int) -> None:
    """Have Linux end this process with its parent, the process `parent`, so that a resumed run meets no rival."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    end_if_orphaned(parent)


def end_if_orphaned(parent: int) -> None:
    """End this process if its parent, the process `parent`, is gone: for where the kernel doesn't."""
    if os.getppid() != parent:
        os._exit(1)


def _ask(signum: int, _frame: FrameType | None) -> None:
    if _asked.signum is None:
        _asked.signum, _asked.asked_s = signum, time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        _say(f"{signal.Signals(signum).name}: stopping at the next safe point\n")
    elif signum == signal.SIGINT and time.monotonic() - _asked.asked_s > _MEANT_S:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    if _asked.signum is not None:
        _stop()


def _stop() -> None:
    assert _asked.signum is not None
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Stopped(_asked.signum)


def _say(text: str) -> None:
    """Write past Python's streams, which may be in the middle of something."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
