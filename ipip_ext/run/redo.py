"""Starting over: what a redo makes void is gone when it begins, and what is left of it goes on by itself.

From the moment a stage is to be computed anew, whatever was made after it is of another run: shown as this one's
result it would be wrong, and met later by a command without --redo it would be refused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from ipip_ext.run import disk
from ipip_ext.run.carry_out import JOB
from ipip_ext.run.layout import MODEL, PUBLISHED
from ipip_ext.run.record import PART_RECORD, RECORD, remove

PENDING = "redo.json"
"""Stages from which to start over, until what was made after them is gone."""


def pending(folder: Path) -> tuple[str, ...]:
    """Return the stages of a redo that was stopped before it had begun."""
    try:
        told = json.loads((folder / PENDING).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ()
    return tuple(map(str, told)) if isinstance(told, list) else ()


def intend(folder: Path, stages: Iterable[str]) -> None:
    """Write down that `stages` are to be redone: if this process ends before they are met, the next one knows."""
    disk.write(folder / PENDING, json.dumps(list(stages)))


def begin(folder: Path, keep: Collection[str]) -> None:
    """Remove all stages of a run folder but those named in `keep`, and what was published of them."""
    withdraw(folder)
    for record in (*folder.rglob(RECORD), *folder.rglob(PART_RECORD)):
        stage = record.parent
        if stage.relative_to(folder).as_posix() not in keep:
            remove(stage)
    for job in folder.rglob(f"*{JOB}"):
        if job.relative_to(folder).as_posix().removesuffix(JOB) not in keep:
            shutil.rmtree(job, ignore_errors=True)
    for place in folder.glob("*"):
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    settle(folder)


def settle(folder: Path) -> None:
    """Forget what was to be redone: it has begun, or the run has ended without meeting it."""
    (folder / PENDING).unlink(missing_ok=True)


def withdraw(folder: Path, *, model: bool = False) -> bool:
    """Remove table, page and plots at the top of a run folder, and the model if that is void too.

    Return whether any of the former stood there.
    """
    standing = [folder / name for name in PUBLISHED if (folder / name).exists()]
    for path in standing:
        path.unlink(missing_ok=True)
    if model:
        remove(folder / MODEL)
    return bool(standing)
