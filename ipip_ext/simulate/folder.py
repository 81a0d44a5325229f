"""The folder of a user's walk: whose it is, and whether it is finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ipip_ext.errors import WorkspaceError
from ipip_ext.run import disk, lock
from ipip_ext.run.plain import flatten
from ipip_ext.simulate.plan import Plan

PARAMETERS, SUMMARY, PROGRESS = "parameters.json", "summary.json", "log.txt"


def finished(plan: Plan, folder: Path) -> dict[str, Any] | None:
    """Return the summary if `folder` holds this very MD from beginning to end; writes nothing.

    Raises WorkspaceError if another process is at work there, or if the folder holds anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise WorkspaceError(f"{folder}: is a file; name a folder with --out.")
    if not folder.exists():
        return None
    lock.refuse_if_held(folder)
    refuse_other(plan, folder)
    path = folder / SUMMARY
    return _read(path) if path.exists() else None


def refuse_other(plan: Plan, folder: Path) -> None:
    """Raise WorkspaceError if `folder` holds other MD than `plan`, or something that is no MD of ours."""
    if not any(not lock.is_ours(path.name) and path.name != PARAMETERS + disk.PART for path in folder.iterdir()):
        return
    path = folder / PARAMETERS
    if not path.is_file():
        raise WorkspaceError(f"{folder}: is not empty and holds no {PARAMETERS}; name another folder with --out.")
    there, here = flatten(_read(path)), flatten(json.loads(json.dumps(plan.parameters)))
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            raise WorkspaceError(
                f"{folder}: holds other MD: {key} is {there.get(key)!r} there and {here.get(key)!r} here;"
                " name another folder with --out."
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WorkspaceError(f"{path}: is corrupt; delete its folder, or name another with --out.")
    return found
