"""Runs of a grid side by side, each in a process of its own (`run_process.py`).

Variants share stages, so a run waits for the first one of its seed: until that is finished or, where there is room for
more, until it has come to where the variants part. What comes after is then computed by each. What is timed is left:
that is for when no other run is at work.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipip_ext import places
from ipip_ext.compare.grid import Run
from ipip_ext.errors import JobLost, raised
from ipip_ext.recipe.compute import Compute
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import signals
from ipip_ext.run.events import Event
from ipip_ext.run.processes import POLL_S, SideProcess, end_all
from ipip_ext.run.record import part_of
from ipip_ext.stages.order import FIRST_STAGE

_MODULE = "ipip_ext.compare.run_process"
_STOP_S = 20.0
"""Seconds that a run has to stop where it can go on: it waits for its own safe point and ends its own workers."""

_SAFE = Event("progress", "grid")


@dataclass
class _Work:
    """A run under way."""

    process: SideProcess
    begun_s: float = field(default_factory=time.monotonic)


def run(
    runs: Sequence[Run], tags: Sequence[Mapping[str, str]], room: int, done: Callable[[int, float], None]
) -> None:  # fmt: skip
    """Compute what is not finished, but for what is timed, `room` runs at once.

    tags: of each run's MLflow run. done: is told the number of each run that is so far, and its seconds.
    Raises what a run raises, with the variant named; the others are stopped where they can go on.
    """
    waiting = [index for index, one in enumerate(runs) if not one.is_finished]
    at_work: dict[int, _Work] = {}
    with tempfile.TemporaryDirectory() as own:
        try:
            while waiting or at_work:
                while len(at_work) < room and (index := next_of(waiting, at_work, runs)) is not None:
                    waiting.remove(index)
                    request = Path(own) / f"{index}.json"
                    request.write_text(json.dumps(_told(runs, index, tags[index], room)), encoding="utf-8")
                    at_work[index] = _Work(SideProcess(_MODULE, request))
                time.sleep(POLL_S)
                signals.at_safe_points(_SAFE)
                for index in [index for index, work in at_work.items() if work.process.poll() is not None]:
                    work = at_work.pop(index)
                    _raise_if_failed(runs[index], work.process)
                    done(index, time.monotonic() - work.begun_s)
        finally:
            end_all({index: work.process for index, work in at_work.items()}, within_s=_STOP_S)


def next_of(waiting: Sequence[int], at_work: Mapping[int, Any], runs: Sequence[Run]) -> int | None:
    """Return which of the runs that wait should begin, None if none should yet."""
    firsts: dict[int, int] = {}
    for index, one in enumerate(runs):
        firsts.setdefault(one.recipe.seed, index)
    parted = None
    for index in waiting:
        first = firsts[runs[index].recipe.seed]
        if index == first or (first not in waiting and first not in at_work):
            return index
        if parted is None and first in at_work and _has_parted(runs[first]):
            parted = index
    return parted


def _has_parted(run: Run) -> bool:
    """Whether a run has come to the first stage that is not the same in all variants."""
    firsts = {FIRST_STAGE.get(key.split(".")[0]) for key in run.variant.values}
    if None in firsts:
        return False
    names = {name for first in firsts for name in (first, part_of(Path(str(first))).name)}
    return any(path.name in names for pattern in ("*", "*/*") for path in run.folder.glob(pattern))


def _told(runs: Sequence[Run], index: int, tags: Mapping[str, str], room: int) -> dict[str, Any]:
    one = runs[index]
    return {
        "recipe": _of_its_own(one.recipe, room).model_dump(mode="json"),
        "file": one.recipe.file,
        "home": str(one.recipe.folder),
        "folder": str(one.folder),
        "siblings": [str(other.folder) for other in runs if other.recipe.seed == one.recipe.seed],
        "tags": dict(tags),
    }


def _of_its_own(recipe: Recipe, room: int) -> Recipe:
    """Return the recipe of a run that has but its share of this machine."""
    if places.kind_of(recipe) == "parsl":
        return recipe
    workers = places.workers_of(recipe) // room
    compute = Compute(place="processes", workers=workers) if workers > 1 else Compute(place="here")
    return recipe.model_copy(update={"compute": compute})


def _raise_if_failed(run: Run, process: SideProcess) -> None:
    told = next((said["error"] for said in process.heard() if "error" in said), None)
    where = f"{run.variant.slug}, seed {run.recipe.seed}"
    if told is not None:
        raise raised(told["kind"], f"{where}: {told['message']}")
    if process.poll() != 0:
        raise JobLost(f"{where}: its process {process.fate}. All that is finished is kept; the same command goes on.")
