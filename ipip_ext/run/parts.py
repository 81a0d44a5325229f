"""Parts of a stage: calls that need nothing of each other, each with a folder and a record of its own.

A stage asks for them by `Context.parts`. In this process they are made one after another; a job on the way leaves word
of what it wants and ends, and is called again when they stand (`run/job.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ipip_ext.run import record as records
from ipip_ext.run.carry_out import carry_out
from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.fingerprint import fingerprint
from ipip_ext.run.stage import Call, Context, Done, Outputs, Surroundings


def calls(
    ctx: Context, stage: Callable[..., Outputs], wanted: Mapping[str, Mapping[str, Any]], executor: str
) -> dict[str, Call]:  # fmt: skip
    """Return the calls that make the parts `wanted` of the stage of `ctx`."""
    return {
        name: Call(
            stage, (), inputs, fingerprint(f"{ctx.name}/{name}", stage, None, inputs, ctx.seed),
            ctx.parts_folder / name, ctx.name, executor,
        )
        for name, inputs in wanted.items()
    }  # fmt: skip


def finished(call: Call) -> Done | None:
    """Return the part that `call` makes if it stands."""
    if records.is_intact(call.folder, call.wanted):
        return Done(call.folder, records.read_record(call.folder, call.name))
    return None


def one_by_one(around: Surroundings) -> Callable[..., dict[str, Done]]:
    """Return what makes parts in this process, one after another."""

    def make(
        ctx: Context, stage: Callable[..., Outputs], wanted: Mapping[str, Mapping[str, Any]], executor: str
    ) -> dict[str, Done]:  # fmt: skip
        made: dict[str, Done] = {}
        for name, call in calls(ctx, stage, wanted, executor).items():
            bus = EventBus([_Within(ctx, len(made), len(wanted))])
            made[name] = finished(call) or carry_out(call, around, bus, make)
        return made

    return make


class _Within:
    """A sink that passes on what a part says; how far it is, is passed on as how far all are."""

    essential = True  # what it raises is what the run's own sinks do

    def __init__(self, ctx: Context, done: int, of: int) -> None:
        self._ctx, self._done, self._of = ctx, done, of

    def __call__(self, event: Event) -> None:
        if event.kind == "progress" and not isinstance(event.value, str):
            event = replace(event, value=(self._done + (event.value or 0.0)) / self._of)
        self._ctx.bus.emit(event)
