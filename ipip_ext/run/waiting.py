"""What a run at work waits for and has running, written down for who asks where it stands."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ipip_ext.run import disk
from ipip_ext.run.outside import Dispatch

FILE = "jobs.json"


@dataclass(frozen=True)
class Waiting:
    """A stage that is not finished. state: waiting | queued | running. where, since: of one that is handed out."""

    stage: str
    state: str
    executor: str = ""
    where: str = ""
    since: str = ""

    def __str__(self) -> str:
        place = f" on {self.executor}" if self.executor else ""
        return f"{self.state:9s} {self.stage}{place}{f' ({self.where})' if self.where else ''}{self._when}"

    @property
    def _when(self) -> str:
        return f" since {self.since}" if self.since else ""


def write(root: Path, waiting: Sequence[str], running: Mapping[str, Dispatch]) -> None:
    """Write what there is to tell, unless that is what the file says."""
    told = [_of(name, dispatch) for name, dispatch in running.items()]
    told += [Waiting(name, "waiting") for name in waiting]
    text = json.dumps([asdict(one) for one in told], indent=1)
    with contextlib.suppress(OSError):  # nothing depends on it
        if not (root / FILE).is_file() or (root / FILE).read_text(encoding="utf-8") != text:
            disk.write(root / FILE, text)


def read(root: Path) -> list[Waiting]:
    """Return what a run at work in `root` has told, nothing if none is."""
    try:
        return [Waiting(**one) for one in json.loads((root / FILE).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def remove(root: Path) -> None:
    """Remove what was told, since nothing is at work any more."""
    with contextlib.suppress(OSError):
        (root / FILE).unlink()


def _of(name: str, dispatch: Dispatch) -> Waiting:
    told = dispatch.told()
    if told is None:
        return Waiting(name, "queued", dispatch.executor, dispatch.job.where, _clock(dispatch.begun))
    return Waiting(name, "running", dispatch.executor, f"{told.host}, process {told.pid}", _clock(told.since))


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
