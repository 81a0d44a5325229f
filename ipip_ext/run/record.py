"""The record of a stage: what went in, what came out, and whether both still hold."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ipip_ext.errors import WorkspaceError
from ipip_ext.run import disk, provenance
from ipip_ext.run.events import log
from ipip_ext.run.fingerprint import differences

RECORD, PART_RECORD, PART = "stage.json", "part.json", ".part"


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """Return the record of the finished stage `name`.

    Raises WorkspaceError if it is missing or broken, or names files outside of its folder.
    """
    path, outside = folder / RECORD, ""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"stage", "fingerprint", "outputs", "values"} - set(record)
        if not missing:
            _ = float(record.get("wall_s", 0.0)), dict(record["values"]), dict(record["fingerprint"]["inputs"])
            entries = list(record["outputs"].values())
            names, _ = [entry["file"] for entry in entries], {entry["sha256"] for entry in entries}
            outside = next((name for name in names if not disk.is_inside(folder / name, folder)), "")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        missing = {"readable JSON"}
    if missing:
        raise WorkspaceError(f"{path}: is corrupt (no {', '.join(sorted(missing))}); start over with --redo {name}.")
    if outside:
        raise WorkspaceError(f"{path}: names {outside}, outside of its folder; start over with --redo {name}.")
    return record


def damaged(folder: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the outputs that are missing or not what the record says."""
    for output, entry in record["outputs"].items():
        path = folder / entry["file"]
        if not path.exists() or provenance.sha256(path) != entry["sha256"]:
            yield output


def is_intact(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Return whether `folder` holds the stage `wanted`, finished, whole and computed with the versions of now."""
    if not (folder / RECORD).is_file():
        return False
    try:
        record = read_record(folder, wanted["stage"])
        return (
            record.get("versions") == provenance.versions()
            and not differences(record["fingerprint"], wanted)
            and next(damaged(folder, record), None) is None
        )
    except (WorkspaceError, OSError, TypeError, KeyError):
        return False


def refuse_if_other(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise WorkspaceError, with the key that differs, if `folder` holds the fingerprint `found` and not `wanted`."""
    differ = differences(found, wanted)
    if differ:
        key, (old, new) = next(iter(differ.items()))
        more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
        raise WorkspaceError(
            f"{folder}: was made with {key} = {old!r}, now it is {new!r}{more};"
            f" give the recipe another name, or start over with --redo {wanted['stage']}."
        )


def part_of(folder: Path) -> Path:
    """Return where a stage works until it is whole."""
    return folder.with_name(folder.name + PART)


def read_part(part: Path, name: str) -> dict[str, Any]:
    """Return the fingerprint of the unfinished stage `name`. Raises WorkspaceError if it is broken."""
    try:
        found = json.loads((part / PART_RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WorkspaceError(f"{part / PART_RECORD}: is corrupt; start over with --redo {name}.")
    return found


def check_part(part: Path, wanted: dict[str, Any]) -> bool:
    """Return whether an earlier attempt can go on in `part`; raise WorkspaceError if it was another's."""
    if not (part / PART_RECORD).exists():
        return False
    refuse_if_other(part, read_part(part, wanted["stage"]), wanted)
    return True


def open_part(folder: Path, wanted: dict[str, Any]) -> Path:
    """Return the folder in which the stage `wanted` works, with what an earlier attempt left in it."""
    part = part_of(folder)
    if check_part(part, wanted):
        return part
    shutil.rmtree(part, ignore_errors=True)  # a kill before part.json: nothing in it can be trusted
    part.mkdir(parents=True)
    _write_json(part / PART_RECORD, wanted)
    return part


def write_record(wanted: dict[str, Any], part: Path, results: Mapping[str, Any], wall_s: float) -> dict[str, Any]:
    """Write down and return the record of a stage that has just left `results` in `part`."""
    files = {k: v for k, v in results.items() if isinstance(v, Path)}
    record = {
        "stage": wanted["stage"],
        "fingerprint": wanted,
        "outputs": {
            key: {"file": str(path.relative_to(part)), "sha256": provenance.sha256(path)} for key, path in files.items()
        },
        "values": {k: v for k, v in results.items() if k not in files},
        "wall_s": round(wall_s, 3),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
    }
    _write_json(part / RECORD, record)
    (part / PART_RECORD).unlink()
    return record


def promote(part: Path, folder: Path) -> None:
    """Make the unfinished stage in `part` the finished one in `folder`, in one step."""
    for path in (*part.rglob("*"), part):
        if path.is_file() or path.is_dir():
            disk.sync(path)
    os.replace(part, folder)
    disk.sync(folder.parent)


def remove(folder: Path) -> None:
    """Remove a stage, finished or not, so that a kill on the way leaves nothing that is met as one.

    folder: of the stage, or the one in which it works. What can't be removed stays.
    """
    part = folder if folder.name.endswith(PART) else part_of(folder)
    with contextlib.suppress(OSError):
        if folder != part and folder.exists():
            _clear(part)
            os.replace(folder, part)
        _clear(part)


def _clear(part: Path) -> None:
    """Remove a working folder: first what says that it may be gone on with, and last that it was a stage's."""
    if not part.is_dir():
        return
    if (part / PART_RECORD).exists():
        os.replace(part / PART_RECORD, part / RECORD)
    for path in part.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != RECORD:
            path.unlink()
    shutil.rmtree(part)


def _write_json(path: Path, data: Any) -> None:
    disk.write(path, json.dumps(data, indent=1, sort_keys=True))


def warn_if_versions_differ(name: str, record: Mapping[str, Any]) -> None:
    """Tell the log which packages have other versions than when stage `name` was computed."""
    old, new = record.get("versions", {}), provenance.versions()
    differ = [f"{key} {old[key]} -> {new.get(key)}" for key in old if old[key] != new.get(key)]
    if differ:
        log.warning("%s was computed with other versions: %s", name, ", ".join(differ))
