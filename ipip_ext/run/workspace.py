"""The run folder: do() reuses, resumes or runs a stage, and promotes it in one step.

A stage is a function of parameters and input files to output files in its own folder. It works
in `<stage>.part/`, which is renamed to `<stage>/` when it is whole. `stage.json` says what went
in and what came out; a finished stage is reused only if both still hold.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipip_ext.errors import DeviceLost, WorkspaceError
from ipip_ext.run import disk, provenance
from ipip_ext.run.events import Event, EventBus, log
from ipip_ext.run.fingerprint import differences, fingerprint
from ipip_ext.run.seeds import derive

RECORD, PART_RECORD = "stage.json", "part.json"


@dataclass(frozen=True)
class Context:
    """What a stage is given besides its parameters and inputs.

    folder: where to write; what an earlier, killed attempt left is still there.
    name: the stage's folder relative to the run folder.
    seed: derived from the recipe's seed and the name.
    """

    folder: Path
    name: str
    seed: int
    device: str
    bus: EventBus
    home: Path = Path()
    """Folder of the recipe, where factories of `python:` calculators are looked for."""
    root: Path | None = None
    """The run folder; nothing in it but inputs may decide what a stage makes."""
    spare_processes: int = 0
    """How many more processes a stage may start, each with as many threads as this one has."""

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Say a number; the unit is part of the name."""
        self.bus.emit(Event("metric", name, float(value), self.name, step))

    def progress(self, share: float, text: str) -> None:
        """Say how far the stage is, 0..1."""
        self.bus.emit(Event("progress", self.name, share, self.name, data={"text": text}))

    def note(self, text: str) -> None:
        """Say one line to the reader."""
        self.bus.emit(Event("note", text, stage=self.name))


@dataclass(frozen=True)
class Done:
    """A finished stage; its outputs are attributes: paths for files, values for the rest."""

    folder: Path
    record: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        record = self.__dict__["record"]
        if name in record["outputs"]:
            return self.folder / record["outputs"][name]["file"]
        if name in record["values"]:
            return record["values"][name]
        raise AttributeError(f"stage {record['stage']} has no output {name}")


class Unfinished(Exception):
    """A rehearsal met a stage that is still to be computed."""


@dataclass
class Workspace:
    """`runs/<name>/`.

    redo: name of a stage from which everything is computed anew.
    rehearsal: write nothing; check what would be reused and raise Unfinished at the first stage to compute.
    siblings: run folders from which a finished stage may be copied, if it is the very one that is wanted here.
    before: called with the name of each stage before it is looked for.
    spare_processes: see Context.
    """

    root: Path
    bus: EventBus
    seed: int = 0
    device: str = "cpu"
    redo: str | None = None
    home: Path = Path()
    rehearsal: bool = False
    siblings: tuple[Path, ...] = ()
    before: Callable[[str], None] | None = None
    spare_processes: int = 0
    _redoing: bool = field(default=False, init=False)

    def do(
        self, stage: Callable[..., dict[str, Any]], params: Any = None, *, at: str = "", follows: bool = False,
        **inputs: Any,
    ) -> Done:  # fmt: skip
        """Return the finished stage `stage`, computing it unless it stands already.

        at: folder within the run folder; the function's name is the last part unless `at` ends with ':name'.
        follows: for a stage that only sums up: made anew, not refused, where parameters or inputs have changed.
        inputs: Paths are recorded by content; everything else by value.
        Raises WorkspaceError if the folder holds this stage with other parameters or inputs.
        """
        scope, _, alias = at.partition(":")
        name = "/".join(part for part in (scope, alias or stage.__name__) if part)
        folder = self.root / name
        if self.before is not None:
            self.before(name)
        wanted = fingerprint(name, stage, params, inputs, derive(self.seed, name))
        self._start_over_if_asked(name, folder)
        if follows:
            self._drop_if_other(folder, wanted)
        if folder.exists():
            return self._reuse(name, folder, wanted)
        # what only sums up says this run's final numbers and times this run's models, so it is made here
        if not (follows or self.rehearsal or self._redoing):
            for sibling in self.siblings:
                if sibling != self.root and _is_intact(sibling / name, wanted):
                    return self._borrow(sibling / name, folder, wanted)
        return self._compute(stage, params, inputs, folder, wanted)

    def _start_over_if_asked(self, name: str, folder: Path) -> None:
        if self.redo in (name, name.rsplit("/", 1)[-1]):
            self._redoing = True
        if self._redoing:
            self._drop(folder, _part(folder))

    def _drop_if_other(self, folder: Path, wanted: dict[str, Any]) -> None:
        if folder.exists() and differences(read_record(folder, wanted["stage"])["fingerprint"], wanted):
            self._drop(folder, _part(folder))
        elif (_part(folder) / PART_RECORD).exists() and differences(_read_part(_part(folder), wanted["stage"]), wanted):
            self._drop(_part(folder))

    def _drop(self, *folders: Path) -> None:
        if self.rehearsal:
            raise Unfinished
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _reuse(self, name: str, folder: Path, wanted: dict[str, Any]) -> Done:
        record = read_record(folder, name)
        _refuse_if_other(folder, record["fingerprint"], wanted)
        for output in damaged(folder, record):
            raise WorkspaceError(
                f"{folder / record['outputs'][output]['file']}: output {output} is missing or was changed;"
                f" start over with --redo {name}."
            )
        if not self.rehearsal:
            _warn_if_versions_differ(name, record)
        self.bus.emit(Event("stage", "reused", stage=name))
        return Done(folder, record)

    def _borrow(self, source: Path, folder: Path, wanted: dict[str, Any]) -> Done:
        part, name = _part(folder), wanted["stage"]
        _check_part(part, wanted)
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        _promote(part, folder)
        self.bus.emit(Event("stage", "borrowed", stage=name, data={"from": source.as_posix()}))
        return Done(folder, read_record(folder, name))

    def _compute(
        self, stage: Callable[..., dict[str, Any]], params: Any, inputs: Mapping[str, Any],
        folder: Path, wanted: dict[str, Any],
    ) -> Done:  # fmt: skip
        if self.rehearsal:
            _check_part(_part(folder), wanted)
            raise Unfinished
        part = _open_part(folder, wanted)
        name = wanted["stage"]
        self.bus.emit(Event("stage", "started", stage=name))
        start = time.monotonic()
        context = Context(part, name, wanted["seed"], self.device, self.bus, self.home, self.root, self.spare_processes)
        given = (params,) if params is not None else ()
        try:
            results = stage(context, *given, **inputs)
        except Exception as error:
            lost = DeviceLost.told_by(error)
            if lost is None:
                raise
            raise DeviceLost(lost.what, name) from error
        record = _record(wanted, part, results, time.monotonic() - start)
        _write_json(part / RECORD, record)
        (part / PART_RECORD).unlink()
        _promote(part, folder)
        self.bus.emit(Event("stage", "finished", stage=name, data={"wall_s": record["wall_s"], **record["values"]}))
        return Done(folder, record)


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


def _is_intact(folder: Path, wanted: Mapping[str, Any]) -> bool:
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


def _refuse_if_other(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differ = differences(found, wanted)
    if differ:
        key, (old, new) = next(iter(differ.items()))
        more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
        raise WorkspaceError(
            f"{folder}: was made with {key} = {old!r}, now it is {new!r}{more};"
            f" give the recipe another name, or start over with --redo {wanted['stage']}."
        )


def _part(folder: Path) -> Path:
    return folder.with_name(folder.name + ".part")


def _read_part(part: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((part / PART_RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WorkspaceError(f"{part / PART_RECORD}: is corrupt; start over with --redo {name}.")
    return found


def _check_part(part: Path, wanted: dict[str, Any]) -> bool:
    """Return whether an earlier attempt can go on in `part`; raise WorkspaceError if it was another's."""
    if not (part / PART_RECORD).exists():
        return False
    _refuse_if_other(part, _read_part(part, wanted["stage"]), wanted)
    return True


def _open_part(folder: Path, wanted: dict[str, Any]) -> Path:
    part = _part(folder)
    if _check_part(part, wanted):
        return part
    shutil.rmtree(part, ignore_errors=True)  # a kill before part.json: nothing in it can be trusted
    part.mkdir(parents=True)
    _write_json(part / PART_RECORD, wanted)
    return part


def _record(wanted: dict[str, Any], part: Path, results: Mapping[str, Any], wall_s: float) -> dict[str, Any]:
    files = {k: v for k, v in results.items() if isinstance(v, Path)}
    return {
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


def _promote(part: Path, folder: Path) -> None:
    for path in (*part.rglob("*"), part):
        if path.is_file() or path.is_dir():
            disk.sync(path)
    os.replace(part, folder)
    disk.sync(folder.parent)


def _write_json(path: Path, data: Any) -> None:
    disk.write(path, json.dumps(data, indent=1, sort_keys=True))


def _warn_if_versions_differ(name: str, record: Mapping[str, Any]) -> None:
    old, new = record.get("versions", {}), provenance.versions()
    differ = [f"{key} {old[key]} -> {new.get(key)}" for key in old if old[key] != new.get(key)]
    if differ:
        log.warning("%s was computed with other versions: %s", name, ", ".join(differ))
