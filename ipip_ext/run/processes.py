"""Side processes: how another Python of ours is started, heard, waited for and ended.

It can import no module of the folder it works in, nor of the recipe's: `-P` keeps both off its path, and this very
package is found by its file. It ends with the process that started it. What it prints is kept, so that its last words
can be told, and each second it shows that it lives: one that no longer does is ended, so nobody waits for it for good.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

POLL_S = 0.2
"""Seconds between two looks at a process that is waited for."""

SILENT_S = 300.0
"""Seconds without a sign of life after which a side process is ended."""

END_S = 3.0
"""Seconds that a process has to end when it is asked to."""

_FAR_SIDE = Path(__file__).with_name("far_side.py")
_WORDS = 3
"""Lines that are told of one that failed."""


class SideProcess:
    """A module of this package at work in a Python of its own; as a context manager it is ended on the way out.

    module: its dotted name. words: file to which all that it prints is appended; None: one without a name.
    environment: None for this process's own. is_asked: whether it reads what it is to do from its standard input.
    """

    def __init__(
        self, module: str, *arguments: object, words: Path | None = None, environment: Mapping[str, str] | None = None,
        is_asked: bool = False,
    ) -> None:  # fmt: skip
        # open for as long as the process may be looked at
        self._words = tempfile.TemporaryFile("a+b") if words is None else words.open("a+b")  # noqa: SIM115
        self._heard = self._begun = os.fstat(self._words.fileno()).st_size
        stdin = subprocess.PIPE if is_asked else subprocess.DEVNULL
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            side_command(module, *arguments), stdin=stdin, stdout=self._words, stderr=self._words, env=environment
        )
        self.pid = self._process.pid
        self._sign, self._looked_s, self._silent_s = 0, time.monotonic(), 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.stop()

    def poll(self) -> int | None:
        """Return its exit code, None while it is at work; one without a sign of life for `SILENT_S` is ended first."""
        if self._process.poll() is None and self._is_silent():
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            return self._process.returncode or 1  # one that the kernel can't end will do nothing more either
        return self._process.returncode

    def ask(self, line: str) -> None:
        """Write a line to its standard input; one that has ended hears nothing, and `poll` tells."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def wait(self, meanwhile: Callable[[], None] = lambda: None) -> int:
        """Return its exit code once it has ended; meanwhile: called several times a second."""
        while (code := self.poll()) is None:
            meanwhile()
            time.sleep(POLL_S)
        return code

    def heard(self) -> list[dict[str, Any]]:
        """Return what it has told by `tell` since it was last asked; what else it prints is passed over."""
        new = self._read(self._heard)
        whole = new[: new.rfind(b"\n") + 1]  # the rest is read again when its line has an end
        self._heard += len(whole)
        return [said for line in whole.split(b"\n") if (said := _told(line)) is not None]

    @property
    def fate(self) -> str:
        """How it ended, with its last words: to be told of one that should not have."""
        if self._silent_s > SILENT_S:
            return f"showed no life for {SILENT_S:.0f} s and was ended"
        lines = [line.strip() for line in self._read(self._begun).split(b"\n") if _told(line) is None]
        last = b" | ".join([line for line in lines if line][-_WORDS:]).decode("utf-8", errors="replace")
        said = f", having said: {last}" if last else ""
        return f"ended with exit code {self._process.returncode}{said}"

    def stop(self) -> None:
        """End it; see `end`."""
        end(self._process)

    def _is_silent(self) -> bool:
        """Count the time without a sign, as one sees it who looks: it stands still while nobody does."""
        now, sign = time.monotonic(), os.fstat(self._words.fileno()).st_mtime_ns
        self._silent_s = 0.0 if sign != self._sign else self._silent_s + min(now - self._looked_s, 5 * POLL_S)
        self._sign, self._looked_s = sign, now
        return self._silent_s > SILENT_S

    def _read(self, start: int) -> bytes:
        """Return what stands in the file of words from `start` on; its place belongs to the process that writes."""
        number = self._words.fileno()
        return os.pread(number, os.fstat(number).st_size - start, start)


def tell(**what: Any) -> None:
    """Tell the process that started this one; it finds it in `heard`."""
    sys.stdout.write(f"\n{json.dumps(what)}\n")  # a line of its own, whatever a library has left there
    sys.stdout.flush()


def side_command(module: str, *arguments: object) -> list[str]:
    """Return the command that is `module` in a Python which ends with this process."""
    return [*safe_python(), str(_FAR_SIDE), str(os.getpid()), module, *map(str, arguments)]


def safe_python() -> list[str]:
    """Return this Python as the beginning of a command whose path holds no working folder."""
    return [sys.executable, "-P"]


def end(*processes: subprocess.Popen[Any], within_s: float = END_S) -> None:
    """End processes that are still at work: asked to and, where they don't within `within_s`, made to.

    One that even then is there waits in the kernel, for a file server perhaps; it is left, and ends when it wakes.
    """
    for process in processes:
        process.terminate()
    _await(processes, within_s)
    for process in processes:
        process.kill()
    _await(processes, within_s)


def see_off(process: subprocess.Popen[Any], within_s: float = END_S) -> None:
    """Wait for a process that has reason to end by itself; one that doesn't within `within_s` is ended."""
    _await((process,), within_s)
    if process.poll() is None:
        end(process, within_s=within_s)


def end_all(processes: Mapping[Any, SideProcess], within_s: float = END_S) -> None:
    """End side processes, all at once; see `end`."""
    end(*(process._process for process in processes.values()), within_s=within_s)


def _await(processes: tuple[subprocess.Popen[Any], ...], within_s: float) -> None:
    until = time.monotonic() + within_s
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))


def _told(line: bytes) -> dict[str, Any] | None:
    """Return what was told in `line`, None if a library printed it."""
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(line)
        if isinstance(said, dict):
            return said
    return None
