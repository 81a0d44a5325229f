"""Ablation: the runs of a grid and the table over all. What runs share is computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ipip_ext import places, runner
from ipip_ext.compare import ablate_report, side_by_side
from ipip_ext.compare.ablate_report import PLAN
from ipip_ext.compare.grid import MARK, Checks, Grid, Run
from ipip_ext.errors import IpipError, WorkspaceError
from ipip_ext.publishing import hand_over
from ipip_ext.recipe.file import dump_recipe
from ipip_ext.run import layout, lock
from ipip_ext.run.console import LogFile, duration
from ipip_ext.run.events import Event, EventBus, JsonLines
from ipip_ext.tracking.mirror import MlflowMirror


def run(grid: Grid, say: Callable[[str], None]) -> Path:
    """Run what is not finished yet, and return the table of all. say: takes a line of progress.

    Raises what a run raises, with the variant named; the same grid goes on from there. Raises WorkspaceError if
    another process is at work on the grid.
    """
    try:
        grid.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"{grid.folder}: can't be written ({error.strerror}); use --workdir.") from None
    with lock.held(grid.folder):
        return _run(grid, say)


def _run(grid: Grid, say: Callable[[str], None]) -> Path:
    try:
        (grid.folder / PLAN).write_text(_described(grid), encoding="utf-8")
    except OSError as error:
        raise WorkspaceError(f"{grid.folder}: can't be written ({error.strerror}); use --workdir.") from None
    mirror = MlflowMirror(grid.folder, grid.recipe.tracking, grid.recipe.name)
    bus = _bus(grid, mirror, say)
    bus.emit(Event("run", "started", data=_identity(grid)))
    try:
        _run_all(grid, bus, mirror)
    except BaseException as error:
        bus.emit(Event("run", "stopped", f"{type(error).__name__}: {error}"[:500]))
        raise
    outcomes = [ablate_report.read(r.variant.slug, r.variant.values, r.recipe.seed, r.folder) for r in grid.runs()]
    files, metrics = ablate_report.write(grid.folder, outcomes)
    for key, value in metrics.items():
        bus.emit(Event("metric", key, value))
    hand_over((file.name for file in (*files, grid.folder / PLAN)), bus)
    bus.emit(Event("run", "finished"))
    return grid.folder / ablate_report.TABLE


def _bus(grid: Grid, mirror: MlflowMirror, say: Callable[[str], None]) -> EventBus:
    bus = EventBus([JsonLines(grid.folder / layout.EVENTS), LogFile(grid.folder / layout.LOG)])
    if grid.recipe.tracking.enabled:
        bus.sinks.append(mirror)
    bus.sinks.append(lambda event: say(event.name) if event.kind == "note" else None)
    return bus


def _identity(grid: Grid) -> dict[str, dict[str, str]]:
    """Return what the event log says of the grid: what is varied over which seeds, and the tags of its MLflow run."""
    name, keys = grid.recipe.name, grid.variants[0].values
    varied = {f"vary.{key}": ", ".join(dict.fromkeys(v.values[key] for v in grid.variants)) for key in keys}
    return {
        "recipe": {"name": name, "seeds": ", ".join(map(str, grid.seeds)), **varied},
        "tags": {"role": "ablation", "ipip.grid": name, "mlflow.runName": f"{name} ablate"},
    }


def _run_all(grid: Grid, bus: EventBus, mirror: MlflowMirror) -> None:
    runs = list(grid.runs())
    seeds = ", ".join(map(str, grid.seeds))
    bus.emit(Event("note", f"{len(runs)} runs in {grid.folder}: {len(grid.variants)} variants, seeds {seeds}"))
    room = places.runs_at_once(grid.recipe, sum(not one.is_finished for one in runs))
    said = _Said(grid, runs, bus, room)
    tags = [_tags(grid, one, mirror) for one in runs]
    if room > 1:
        side_by_side.run(runs, tags, room, said.computed)
    check = Checks()
    for index, one in enumerate(runs):
        was_finished, start = one.is_finished, time.monotonic()
        siblings = tuple(other.folder for other in runs if other.recipe.seed == one.recipe.seed)
        try:
            runner.run(one.recipe, one.folder, quiet=True, check=check, siblings=siblings, tags=tags[index])
        except IpipError as error:
            raise type(error)(f"{one.variant.slug}, seed {one.recipe.seed}: {error}") from error
        said.finished(index, None if was_finished else time.monotonic() - start)


class _Said:
    """What is said of a grid's progress."""

    def __init__(self, grid: Grid, runs: Sequence[Run], bus: EventBus, room: int) -> None:
        self._n_variants, self._runs, self._bus, self._room = len(grid.variants), runs, bus, room
        self._took: dict[int, float] = {}

    def computed(self, index: int, seconds: float) -> None:
        """Say that a run among several at once lacks but its times."""
        self._took[index] = seconds
        ahead = [i for i, one in enumerate(self._runs) if i not in self._took and not one.is_finished]
        self._say(index, f"computed in {duration(seconds)}, to be timed{self._left(ahead, self._room)}")

    def finished(self, index: int, seconds: float | None) -> None:
        """Say that a run is finished. seconds: None if it was."""
        if self._room == 1 and seconds is not None:
            self._took[index] = seconds
        ahead = [i for i in range(index + 1, len(self._runs)) if not self._runs[i].is_finished]
        how = "was finished" if seconds is None else f"done in {duration(seconds)}"
        self._say(index, how + (self._left(ahead, 1) if self._room == 1 else ""))

    def _left(self, ahead: Sequence[int], at_once: int) -> str:
        seconds = _left(self._took, ahead, self._n_variants) / at_once
        return f"; about {duration(seconds)} to go" if ahead else ""

    def _say(self, index: int, text: str) -> None:
        one = self._runs[index]
        where = f"[{index + 1}/{len(self._runs)}] {one.variant.slug}, seed {one.recipe.seed}"
        self._bus.emit(Event("note", f"{where}: {text}"))


def _left(took: Mapping[int, float], ahead: Sequence[int], n_variants: int) -> float:
    """Return the seconds that the runs `ahead` will take.

    A run takes as long as the same variant did with other seeds: the first of a seed computes what others share.
    """
    some = [seconds for index, seconds in took.items() if index % n_variants] or list(took.values()) or [0.0]

    def guess(index: int) -> float:
        same = [seconds for done, seconds in took.items() if done % n_variants == index % n_variants] or some
        return sum(same) / len(same)

    return sum(map(guess, ahead))


def _tags(grid: Grid, one: Run, mirror: MlflowMirror) -> dict[str, str]:
    tags = {
        "ipip.grid": grid.recipe.name,
        "ipip.variant": one.variant.slug,
        "ipip.seed": str(one.recipe.seed),
        "mlflow.runName": f"{grid.recipe.name} {one.variant.slug} seed {one.recipe.seed}",
    }
    return tags | ({"mlflow.parentRunId": mirror.run_id} if mirror.run_id else {})


def _described(grid: Grid) -> str:
    """Return the recipe that is varied, with what is varied as comments above it."""
    seeds = ", ".join(map(str, grid.seeds))
    return "\n".join([f"{MARK}{seeds}", *(f"# {v.slug}" for v in grid.variants), dump_recipe(grid.recipe)])
