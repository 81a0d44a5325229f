"""The run folder: `do` reuses, resumes or runs a stage, and promotes it in one step.

A stage is a function of parameters and input files to output files in its own folder. It works
in `<stage>.part/`, which is renamed to `<stage>/` when it is whole. `stage.json` says what went
in and what came out; a finished stage is reused only if both still hold.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from ipip_ext.errors import WorkspaceError
from ipip_ext.run import parts, redo
from ipip_ext.run import record as records
from ipip_ext.run.carry_out import carry_out, promote
from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.fingerprint import differences, fingerprint
from ipip_ext.run.hearing import left_by
from ipip_ext.run.later import Later, settle, sources_of
from ipip_ext.run.scheduler import Scheduler, told_finished
from ipip_ext.run.seeds import derive
from ipip_ext.run.stage import Call, Context, Done, Outputs, Surroundings

Given = ParamSpec("Given")
"""What a stage takes besides its context, so that a type checker holds each call of `do` against its stage."""

Made = TypeVar("Made")


class Unfinished(Exception):
    """A rehearsal met a stage that is still to be computed, or a run what is left to be timed."""


@dataclass
class Workspace:
    """`runs/<name>/`.

    redo: names of stages from which everything is computed anew.
    rehearsal: write nothing; check what would be reused and raise Unfinished at the first stage to compute.
    siblings: run folders from which a finished stage may be copied, if it is the very one that is wanted here.
    scheduler: has stages computed in other processes, side by side; None: in this one, as they are met.
    times: compute stages that measure time; else raise Unfinished at the first of them, once all others are finished.
    """

    root: Path
    bus: EventBus
    seed: int = 0
    device: str = "cpu"
    redo: tuple[str, ...] = ()
    home: Path = Path()
    rehearsal: bool = False
    siblings: tuple[Path, ...] = ()
    scheduler: Scheduler | None = None
    times: bool = True
    is_redoing: bool = field(default=False, init=False)
    met: list[str] = field(default_factory=list, init=False)
    """Names of the stages that were asked for so far."""
    is_ahead: bool = field(default=False, init=False)
    yielded: list[str] = field(default_factory=list, init=False)
    """Of a rehearsal: names of the finished stages that would be made anew, see `at`."""

    def at(
        self, scope: str = "", *, name: str = "", follows: bool = False, alone: bool = False,
        yields_to: Collection[str] = (),
    ) -> Shelf:  # fmt: skip
        """Return where a stage stands in the run folder.

        scope: folder within the run folder. name: of the stage, if not its function's.
        follows: for a stage that only sums up: made anew, not refused, where parameters or inputs have changed.
        alone: for a stage that measures time: nothing else of this run is at work meanwhile.
        yields_to: names of parameters and inputs on which nothing but the comparison depends: where these alone have
        changed the stage is made anew, and what goes on from its other outputs is reused.
        """
        return Shelf(self, scope, name, follows, alone, frozenset(yields_to))

    def do(
        self, stage: Callable[Concatenate[Context, Given], Outputs], *params: Given.args, **inputs: Given.kwargs
    ) -> Done:
        """Return the finished stage `stage` of the run folder itself; see `Shelf.do`."""
        return self.at().do(stage, *params, **inputs)

    def later(self, make: Callable[[Any], Made], *of: Any) -> Made:
        """Return what `make` returns for `of` once the stages in it are finished; see `run.later`.

        `make` is called each time that somebody looks, so it should only pick or put together.
        """
        sources = tuple(source for one in of for source in sources_of(one))
        if all(source.is_over for source in sources):
            return make(*settle(of))
        return cast("Made", Later(lambda: make(*settle(of)), sources))  # it passes for one

    def ahead(self, ask: Callable[[], object]) -> None:
        """Let `ask` ask for stages that will be asked for later on: they begin now if there is room for them.

        It does nothing where stages are computed as they are met, or anew: then what is void is told by their order.
        """
        if self.scheduler is None or self.redo or self.rehearsal:
            return
        self.is_ahead = True
        try:
            ask()
        finally:
            self.is_ahead = False

    def wait(self) -> None:
        """Return when all stages that were asked for are finished. Raises what one of them raised."""
        if self.scheduler is not None:
            self.scheduler.wait_for_all()


@dataclass(frozen=True)
class Shelf:
    """Where a stage stands; see `Workspace.at`."""

    work: Workspace
    scope: str
    stage_name: str
    follows: bool
    alone: bool
    yields_to: frozenset[str] = frozenset()

    def do(
        self, stage: Callable[Concatenate[Context, Given], Outputs], *params: Given.args, **inputs: Given.kwargs
    ) -> Done:
        """Return the finished stage `stage`, computing it unless it stands already.

        With a scheduler it returns at once; the outputs stand for what is to come (`run.later`).
        params: its section of the recipe, if it takes one. inputs: Paths are recorded by content; everything else by
        value; the fields of a bundle (`run.inputs`) one by one.
        Raises WorkspaceError if the folder holds this stage with other parameters or inputs.
        """
        work = self.work
        if self.alone and not work.times:
            work.wait()
            raise Unfinished
        name = "/".join(part for part in (self.scope, self.stage_name or stage.__name__) if part)
        if not work.is_ahead:
            self._start_over_if_asked(name)
            work.met.append(name)

        def call() -> Call:
            section, given = settle(params), settle(inputs)
            seed = derive(work.seed, name)
            wanted = fingerprint(name, stage, section[0] if section else None, given, seed)
            return Call(stage, section, given, wanted, work.root / name, name)

        if work.scheduler is None or work.rehearsal:
            made = call()
            return self._find(made) or self._compute(made)
        return work.scheduler.add(
            name, work.root / name, call, self._find, needs=tuple(sources_of([params, inputs])), alone=self.alone,
            is_ahead=work.is_ahead,
        )  # fmt: skip

    def _start_over_if_asked(self, name: str) -> None:
        work = self.work
        if work.is_redoing or not {name, name.rsplit("/", 1)[-1]} & set(work.redo):
            return
        if work.rehearsal:
            raise Unfinished
        work.is_redoing = True
        redo.begin(work.root, keep=work.met)

    def _find(self, call: Call) -> Done | None:
        """Return the stage if it stands, here or in a sibling."""
        work, wanted = self.work, call.wanted
        if self.follows or self.yields_to:
            self._drop_if_other(call.folder, wanted)
        if not work.rehearsal:
            for event in left_by(call.folder):
                work.bus.emit(event)
        if call.folder.exists():
            return self._reuse(call)
        if work.rehearsal:
            return None
        if records.is_intact(records.part_of(call.folder), wanted):  # a kill just before it was promoted
            return told_finished(work.bus, promote(call))
        # what only sums up says this run's final numbers and times this run's models, so it is made here
        if not (self.follows or work.is_redoing):
            for sibling in work.siblings:
                if sibling != work.root and records.is_intact(sibling / call.name, wanted):
                    return self._borrow(sibling / call.name, call)
        return None

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

    def _reuse(self, call: Call) -> Done:
        folder, name = call.folder, call.name
        record = records.read_record(folder, name)
        if name not in self.work.yielded:
            records.refuse_if_other(folder, record["fingerprint"], call.wanted)
        for output in records.damaged(folder, record):
            raise WorkspaceError(
                f"{folder / record['outputs'][output]['file']}: output {output} is missing or was changed;"
                f" start over with --redo {name}."
            )
        if not self.work.rehearsal:
            records.warn_if_versions_differ(name, record)
        self.work.bus.emit(Event("stage", "reused", stage=name))
        return Done(folder, record)

    def _borrow(self, source: Path, call: Call) -> Done:
        part, name = records.part_of(call.folder), call.name
        records.check_part(part, call.wanted)
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        records.promote(part, call.folder)
        self.work.bus.emit(Event("stage", "borrowed", stage=name, data={"from": source.as_posix()}))
        return Done(call.folder, records.read_record(call.folder, name))

    def _compute(self, call: Call) -> Done:
        work = self.work
        if work.rehearsal:
            records.check_part(records.part_of(call.folder), call.wanted)
            raise Unfinished
        records.open_part(call.folder, call.wanted)
        work.bus.emit(Event("stage", "started", stage=call.name))
        around = Surroundings(work.device, work.home, work.root)
        return told_finished(work.bus, carry_out(call, around, work.bus, parts.one_by_one(around)))
