"""Files of a run folder that MLflow gets: what lies in the folder, and nothing else."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from ipip_ext.run import disk
from ipip_ext.run.layout import EVENTS
from ipip_ext.run.printable import one_line
from ipip_ext.tracking.names import name_of

log = logging.getLogger("ipip_ext")


def upload(client: Any, run_id: str, run_folder: Path, run: str, artifact: str) -> None:
    """Give the MLflow run `run_id` a file or a folder.

    run: folder of the child that it is, "" for the parent; the files keep their places below it. artifact: path
    relative to `run_folder`. What leads out of there, or is not there, is left with a warning.
    """
    path = run_folder / artifact
    if _leads_out(path, run_folder):
        log.warning("%s names %s, outside of the run folder, so MLflow does not get it", EVENTS, one_line(artifact))
        return
    inside = Path(os.path.relpath(path, run_folder))
    if run and inside.parts[:1] == (run,):
        inside = inside.relative_to(run)
    if path.is_dir():
        client.log_artifacts(run_id, str(path), _place(inside))
    elif path.is_file():
        client.log_artifact(run_id, str(path), _place(inside.parent))
    else:
        log.warning("%s is not there, so MLflow does not get it", one_line(path))


def _place(folder: Path) -> str | None:
    """Return the folder in MLflow; None for the topmost. MLflow refuses what begins like a way out."""
    place = folder.as_posix()
    if place == ".":
        return None
    return name_of(place) if place.startswith("..") else place


def _leads_out(path: Path, folder: Path) -> bool:
    """Return whether `path`, or a link in it, leads out of `folder`: a foreign run could have any file uploaded."""
    return not all(disk.is_inside(each, folder) for each in (path, *path.rglob("*")))
