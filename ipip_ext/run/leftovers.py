"""What a run that was killed has left at work elsewhere: it is ended before another run begins in the folder.

A job ends by itself when the folder's lock has become another's (`run/job.py`); its block is cancelled here, and its
last sign of life awaited, so that nothing writes into the folder that the new run doesn't know of.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ipip_ext.errors import WorkspaceError
from ipip_ext.run import disk
from ipip_ext.run.carry_out import JOB
from ipip_ext.run.outside import BEAT

FILE = "blocks.json"

_CANCEL = {
    "SlurmProvider": "scancel", "PBSProProvider": "qdel", "TorqueProvider": "qdel", "GridEngineProvider": "qdel",
    "LSFProvider": "bkill",
}  # fmt: skip

_ID = re.compile(r"\w[\w.\[\]-]*")
"""What a batch system calls a job, and no option of its commands."""

_STILL_S = 4.0
"""Seconds without a beat after which a job is over: it beats each second."""

_PATIENCE_S = 180.0


def write(root: Path, blocks: Mapping[str, tuple[str, list[str]]]) -> None:
    """Write down the blocks of each executor: its provider's class, and the batch system's ids."""
    with contextlib.suppress(OSError):
        disk.write(root / FILE, json.dumps(blocks, indent=1))


def forget(root: Path) -> None:
    """Remove the note: nothing is left."""
    with contextlib.suppress(OSError):
        (root / FILE).unlink()


def end(root: Path, say: Callable[[str], None]) -> None:
    """End what a killed run has left at work. say: takes a line. Raises WorkspaceError if it goes on all the same."""
    if not (root / FILE).is_file():
        return
    for executor, provider, ids in _told(root / FILE):
        command = shutil.which(_CANCEL.get(provider, ""))
        if ids and command is not None:
            say(f"a run that was killed has left blocks {' '.join(ids)} of executor {executor}; they are cancelled")
            subprocess.run([command, *ids], capture_output=True, check=False)  # noqa: S603 - ids, and nothing else
    _await_silence(root, say)
    forget(root)


def _told(file: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield what the note says of each executor, as far as it can be read: a kill may have cut it."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        for executor, (provider, ids) in json.loads(file.read_text(encoding="utf-8")).items():
            yield str(executor), str(provider), [number for number in map(str, ids) if _ID.fullmatch(number)]


def _await_silence(root: Path, say: Callable[[str], None]) -> None:
    beats, still_s, waited_s = _beats(root), 0.0, 0.0
    while beats and still_s < _STILL_S:
        if waited_s == 0.0:
            say("waiting until jobs of a run that was killed have ended")
        if waited_s > _PATIENCE_S:
            raise WorkspaceError(
                f"{root}: a job of a run that was killed still works in it; cancel it, then run again."
            )
        time.sleep(0.5)
        waited_s += 0.5
        now = _beats(root)
        still_s = still_s + 0.5 if now == beats else 0.0
        beats = now


def _beats(root: Path) -> dict[Path, int]:
    found = {}
    for beat in root.rglob(f"*{JOB}/{BEAT}"):
        with contextlib.suppress(OSError):
            found[beat] = beat.stat().st_mtime_ns
    return found
