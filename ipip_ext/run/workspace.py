"""The run folder: `do` reuses, resumes or runs a stage, and promotes it in one step.

A stage is a function of parameters and input files to output files in its own folder. It works
in `<stage>.part/`, which is renamed to `<stage>/` when it is whole. `stage.json` says what went
in and what came out; a finished stage is reused only if both still hold.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from ipip_ext.errors import DeviceLost, WorkspaceError
from ipip_ext.run import record as records
from ipip_ext.run import redo
from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.fingerprint import differences, fingerprint
from ipip_ext.run.seeds import derive
from ipip_ext.run.stage import Context, Done, Outputs

Given = ParamSpec("Given")
"""What a stage takes besides its context, so that a type checker holds each call of `do` against its stage."""


class Unfinished(Exception):
    """A rehearsal met a stage that is still to be computed."""


@dataclass
class Workspace:
    """`runs/<name>/`.

    redo: names of stages from which everything is computed anew.
    rehearsal: write nothing; check what would be reused and raise Unfinished at the first stage to compute.
    siblings: run folders from which a finished stage may be copied, if it is the very one that is wanted here.
    before: called with the name of each stage before it is looked for.
    spare_processes: see Context.
    """

    root: Path
    bus: EventBus
    seed: int = 0
    device: str = "cpu"
    redo: tuple[str, ...] = ()
    home: Path = Path()
    rehearsal: bool = False
    siblings: tuple[Path, ...] = ()
    before: Callable[[str], None] | None = None
    spare_processes: int = 0
    is_redoing: bool = field(default=False, init=False)
    met: list[str] = field(default_factory=list, init=False)
    """Names of the stages that were asked for so far."""
    yielded: list[str] = field(default_factory=list, init=False)
    """Of a rehearsal: names of the finished stages that would be made anew, see `at`."""

    def at(
        self, scope: str = "", *, name: str = "", follows: bool = False, yields_to: Collection[str] = ()
    ) -> Place:  # fmt: skip
        """Return where a stage stands in the run folder.

        scope: folder within the run folder. name: of the stage, if not its function's.
        follows: for a stage that only sums up: made anew, not refused, where parameters or inputs have changed.
        yields_to: names of parameters and inputs on which nothing but the comparison depends: where these alone have
        changed the stage is made anew, and what goes on from its other outputs is reused.
        """
        return Place(self, scope, name, follows, frozenset(yields_to))

    def do(
        self, stage: Callable[Concatenate[Context, Given], Outputs], *params: Given.args, **inputs: Given.kwargs
    ) -> Done:
        """Return the finished stage `stage` of the run folder itself; see `Place.do`."""
        return self.at().do(stage, *params, **inputs)


@dataclass(frozen=True)
class Place:
    """Where a stage stands; see `Workspace.at`."""

    work: Workspace
    scope: str
    name: str
    follows: bool
    yields_to: frozenset[str] = frozenset()

    def do(
        self, stage: Callable[Concatenate[Context, Given], Outputs], *params: Given.args, **inputs: Given.kwargs
    ) -> Done:
        """Return the finished stage `stage`, computing it unless it stands already.

        params: its section of the recipe, if it takes one. inputs: Paths are recorded by content; everything else by
        value; the fields of a bundle (`run.inputs`) one by one.
        Raises WorkspaceError if the folder holds this stage with other parameters or inputs.
        """
        work, settings = self.work, params[0] if params else None
        name = "/".join(part for part in (self.scope, self.name or stage.__name__) if part)
        folder = work.root / name
        if work.before is not None:
            work.before(name)
        wanted = fingerprint(name, stage, settings, inputs, derive(work.seed, name))
        self._start_over_if_asked(name)
        work.met.append(name)
        if self.follows or self.yields_to:
            self._drop_if_other(folder, wanted)
        if folder.exists():
            return self._reuse(name, folder, wanted)
        # what only sums up says this run's final numbers and times this run's models, so it is made here
        if not (self.follows or work.rehearsal or work.is_redoing):
            for sibling in work.siblings:
                if sibling != work.root and records.is_intact(sibling / name, wanted):
                    return self._borrow(sibling / name, folder, wanted)
        return self._compute(lambda context: stage(context, *params, **inputs), folder, wanted)

    def _start_over_if_asked(self, name: str) -> None:
        work = self.work
        if work.is_redoing or not {name, name.rsplit("/", 1)[-1]} & set(work.redo):
            return
        if work.rehearsal:
            raise Unfinished
        work.is_redoing = True
        redo.begin(work.root, keep=work.met)

    def _drop_if_other(self, folder: Path, wanted: dict[str, Any]) -> None:
        part, name = records.part_of(folder), wanted["stage"]
        if folder.exists() and self._is_void(records.read_record(folder, name)["fingerprint"], wanted):
            if self.work.rehearsal and not self.follows:  # it stands in for what will be made
                self.work.yielded.append(name)
                return
            self._drop(folder, part)
        elif (part / records.PART_RECORD).exists() and self._is_void(records.read_part(part, name), wanted):
            self._drop(part)

    def _is_void(self, found: dict[str, Any], wanted: dict[str, Any]) -> bool:
        """Whether what was made of `found` gives way to what is wanted now."""
        differ = differences(found, wanted)
        names = {f"{key}.".split(".")[1] for key in differ}  # after `params` or `inputs`; of the seed none
        return bool(differ) and (self.follows or names <= self.yields_to)

    def _drop(self, *folders: Path) -> None:
        if self.work.rehearsal:
            raise Unfinished
        if not self.follows and redo.withdraw(self.work.root):
            self.work.bus.emit(Event("run", "withdrawn", "the test frames, or their splits, have changed"))
        for folder in folders:
            records.remove(folder)

    def _reuse(self, name: str, folder: Path, wanted: dict[str, Any]) -> Done:
        record = records.read_record(folder, name)
        if name not in self.work.yielded:
            records.refuse_if_other(folder, record["fingerprint"], wanted)
        for output in records.damaged(folder, record):
            raise WorkspaceError(
                f"{folder / record['outputs'][output]['file']}: output {output} is missing or was changed;"
                f" start over with --redo {name}."
            )
        if not self.work.rehearsal:
            records.warn_if_versions_differ(name, record)
        self.work.bus.emit(Event("stage", "reused", stage=name))
        return Done(folder, record)

    def _borrow(self, source: Path, folder: Path, wanted: dict[str, Any]) -> Done:
        part, name = records.part_of(folder), wanted["stage"]
        records.check_part(part, wanted)
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        records.promote(part, folder)
        self.work.bus.emit(Event("stage", "borrowed", stage=name, data={"from": source.as_posix()}))
        return Done(folder, records.read_record(folder, name))

    def _compute(self, stage: Callable[[Context], Outputs], folder: Path, wanted: dict[str, Any]) -> Done:
        work = self.work
        if work.rehearsal:
            records.check_part(records.part_of(folder), wanted)
            raise Unfinished
        part = records.open_part(folder, wanted)
        name = wanted["stage"]
        work.bus.emit(Event("stage", "started", stage=name))
        start = time.monotonic()
        context = Context(part, name, wanted["seed"], work.device, work.bus, work.home, work.root, work.spare_processes)
        try:
            results = stage(context)
        except Exception as error:
            lost = DeviceLost.told_by(error)
            if lost is None:
                raise
            raise DeviceLost(lost.what, name) from error
        record = records.write_record(wanted, part, results, time.monotonic() - start)
        records.promote(part, folder)
        work.bus.emit(Event("stage", "finished", stage=name, data={"wall_s": record["wall_s"], **record["values"]}))
        return Done(folder, record)
