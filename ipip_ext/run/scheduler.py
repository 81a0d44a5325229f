"""Stages side by side: each begins once what it needs is there and its place has room.

What needs what is read off what stages are given: an output of a stage under way (`run.later`) is waited for. All of it
happens in the run's own thread, whenever that waits for something; so events come in order, signals are heard, and
no two things are written at once. Among stages that could begin, those that were asked for first do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ipip_ext.run import parts
from ipip_ext.run import record as records
from ipip_ext.run.carry_out import carry_out, promote
from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.hearing import left_by
from ipip_ext.run.later import Source
from ipip_ext.run.outside import HERE, Dispatch, Place, Wanted
from ipip_ext.run.stage import Call, Coming, Done, Surroundings

_TURN_S = 0.02
"""Seconds between two looks at what is under way."""

_TELL_S = 1.0
"""Seconds between two notes of where the run stands."""


class Task:
    """A stage that was asked for, or a part of one.

    call: returns what is to be called once `needs` are over. find: returns the stage where it stands already.
    """

    def __init__(
        self, name: str, call: Callable[[], Call], find: Callable[[Call], Done | None], needs: Sequence[Source],
        *, alone: bool, is_part: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.needs, self.alone, self.is_part, self.is_ahead = name, needs, alone, is_part, False
        self._call, self._find = call, find
        self.made: Call | None = None
        self.done: Done | None = None
        self.dispatch: Dispatch | None = None
        self.parts: list[Task] = []
        self.group: list[Task] = []
        self.share = 0.0

    @property
    def can_begin(self) -> bool:
        """Whether all that it needs is there."""
        return all(need.is_over for need in self.needs) and all(part.done for part in self.parts)

    def look(self) -> Call:
        """Return its call; `done` is set if it stands already."""
        if self.made is None:
            self.made = self._call()
            self.done = self._find(self.made)
        return self.made


class _Waited:
    """What somebody who looks at a task's outputs waits for."""

    def __init__(self, scheduler: Scheduler, task: Task) -> None:
        self._scheduler, self._task = scheduler, task

    @property
    def is_over(self) -> bool:
        return self._task.done is not None

    def wait(self) -> Done:
        while self._task.done is None:
            self._scheduler.turn()
        return self._task.done


class Scheduler:
    """Hands stages to a place, passes on what they say, and promotes what they make.

    retries: how often a stage is tried again whose process has died. A stage that fails is not: it would again.
    """

    def __init__(self, place: Place, bus: EventBus, around: Surroundings, *, retries: int = 1) -> None:
        self._place, self._bus, self._around, self._retries = place, bus, around, retries
        self._waiting: list[Task] = []
        self._running: list[Task] = []
        self._ahead: dict[str, Task] = {}
        self._told_s = 0.0

    def add(
        self, name: str, folder: Path, call: Callable[[], Call], find: Callable[[Call], Done | None], *,
        needs: Sequence[Source], alone: bool, is_ahead: bool = False,
    ) -> Done:  # fmt: skip
        """Return the stage `name` as one that is under way; see Task.

        is_ahead: it will be asked for in earnest later; until then it takes only room that nothing else wants.
        """
        task = self._ahead.pop(name, None)
        if task is None:
            task = Task(name, call, find, needs, alone=alone)
            self._waiting.append(task)
        task.is_ahead = is_ahead
        if is_ahead:
            self._ahead[name] = task
        return Coming(folder, _Waited(self, task))

    def wait_for_all(self) -> None:
        """Return when nothing is under way. Raises what a stage raised."""
        while self._waiting or self._running:
            self.turn()

    def turn(self) -> None:
        """Pass on what is new, end what is over and begin what can. Raises what a stage raised."""
        for task in list(self._running):
            self._follow(task)
        if not self._begin_what_can():
            time.sleep(_TURN_S)
        if time.monotonic() - self._told_s > _TELL_S:
            self._told_s = time.monotonic()
            running = {task.name: task.dispatch for task in self._running if task.dispatch is not None}
            self._place.tell([task.name for task in self._waiting if not task.is_part], running)

    def _begin_what_can(self) -> bool:
        """Return whether something has changed."""
        has_changed = False
        for task in sorted(self._waiting, key=lambda task: task.is_ahead):
            if not task.can_begin:
                continue
            call = task.look()
            if task.done is None:
                if self._is_in_the_way(task):
                    break
                executor = self._place.executor_of(call)
                if executor != HERE and not self._place.has_room(executor):
                    continue
                self._begin(task, call, executor)
            self._waiting.remove(task)
            has_changed = True
            if task.alone and task.done is None:
                break
        return has_changed

    def _is_in_the_way(self, task: Task) -> bool:
        return bool(self._running) and (task.alone or any(other.alone for other in self._running))

    def _begin(self, task: Task, call: Call, executor: str) -> None:
        records.open_part(call.folder, call.wanted)
        if not task.is_part and not task.parts:
            self._bus.emit(Event("stage", "started", stage=call.name))
        if executor == HERE:
            self._end(task, carry_out(call, self._around, self._bus, parts.one_by_one(self._around)))
            return
        task.dispatch = Dispatch(call, self._around, self._place, executor, self._retries)
        self._running.append(task)

    def _follow(self, task: Task) -> None:
        """Pass on what a task has said, and see to it if it is over."""
        dispatch = task.dispatch
        assert dispatch is not None
        try:
            is_over = dispatch.is_over()
        except Wanted as wanted:
            self._hear(task, dispatch)
            dispatch.forget()
            self._running.remove(task)
            task.parts = [self._part(call) for call in wanted.calls]
            for part in task.parts:
                part.group = task.parts
            self._waiting[:0] = [*task.parts, task]  # what is begun is finished first
            return
        finally:  # after the look, so that nothing is unheard of one that is over
            self._hear(task, dispatch)
        if is_over:
            self._running.remove(task)
            self._end(task, promote(dispatch.call))

    def _hear(self, task: Task, dispatch: Dispatch) -> None:
        for event in dispatch.heard():
            self._bus.emit(self._of_all(event, task) if task.is_part else event)

    def _of_all(self, event: Event, part: Task) -> Event:
        """Return what a part says; how far it is, as how far all parts are."""
        if event.kind != "progress" or not isinstance(event.value, int | float):
            return event
        part.share = event.value
        shares = [1.0 if one.done else one.share for one in part.group]
        return replace(event, value=sum(shares) / len(shares))

    def _part(self, call: Call) -> Task:
        return Task(call.name, lambda: call, self._find_part, (), alone=False, is_part=True)

    def _find_part(self, call: Call) -> Done | None:
        for event in left_by(call.folder):
            self._bus.emit(event)
        return parts.finished(call)

    def _end(self, task: Task, done: Done) -> None:
        task.done = done
        if not task.is_part:
            told_finished(self._bus, done)


def told_finished(bus: EventBus, done: Done) -> Done:
    """Return the stage `done` once it is said to be finished."""
    record: dict[str, Any] = done.record
    bus.emit(Event("stage", "finished", stage=record["stage"], data={"wall_s": record["wall_s"], **record["values"]}))
    return done
