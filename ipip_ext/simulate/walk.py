"""MD with a finished model in a folder of its own, by the engine that also samples for a run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipip_ext import md
from ipip_ext.errors import CalculatorError, DataError, StageFailed, UserError, WorkspaceError
from ipip_ext.md.replicas import start_name
from ipip_ext.potentials.base import Potential
from ipip_ext.potentials.compute import require_stress, words
from ipip_ext.run import disk, lock, provenance, signals
from ipip_ext.run.console import LogFile, duration
from ipip_ext.run.events import Event, EventBus, Sink
from ipip_ext.simulate import home
from ipip_ext.simulate.files import Written, write_json
from ipip_ext.simulate.folder import PARAMETERS, PROGRESS, SUMMARY, finished, refuse_other
from ipip_ext.simulate.plan import Plan
from ipip_ext.simulate.summary import summarise

_WALK, _STAGE = "walk", "md"


def check(potential: Potential, plan: Plan) -> None:
    """Raise DataError if `potential` can't label a start, CalculatorError if it lacks the stress that NPT needs.

    Raises RecipeError if the engine is not installed or can't walk with it, and CalculatorError if it is to stop where
    it has learnt nothing and can't tell.
    """
    md.check_engine(plan.settings.engine, potential)
    if plan.on_unknown == "stop":
        home.require(potential)
    first_of: dict[frozenset[str], int] = {}
    for number, start in enumerate(plan.starts):
        first_of.setdefault(frozenset(start.get_chemical_symbols()), number)
    for number in first_of.values():
        start = plan.starts[number]
        try:
            potential.compute([start])
        except UserError as error:
            raise DataError(f"{start_name(start, number)}: {error}") from None
        except Exception as error:
            raise CalculatorError(
                f"{start_name(start, number)}: the model fails for it ({words(error)}); mend it, or take another model."
            ) from error
    if plan.settings.ensemble == "npt":
        require_stress(potential, plan.starts[0])


def run(plan: Plan, potential: Potential, folder: Path, *, show: Sink | None = None) -> dict[str, Any]:
    """Walk as planned in `folder`, or go on where it stands; return the summary.

    show: a sink of events for those who watch.
    Leaves trajectory.extxyz, log.csv, log.txt, parameters.json and summary.json.
    Raises UserError as `check` and `finished` do, before anything is written; StageFailed if there is not one frame.
    """
    check(potential, plan)
    finished(plan, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"{folder}: can't be written ({error.strerror}); use --out for another place.") from None
    with lock.held(folder):
        refuse_other(plan, folder)  # whoever had the lock since may have done something else here
        try:
            write_json(folder / PARAMETERS, plan.parameters)
            return _run(plan, potential, folder, show)
        except Exception as error:
            if why := disk.trouble(error):
                raise WorkspaceError(
                    f"{folder}: can't be written ({why}). Mend that, and the same command goes on from the last commit."
                ) from error
            raise


def _run(plan: Plan, potential: Potential, folder: Path, show: Sink | None) -> dict[str, Any]:
    bus = EventBus([signals.at_safe_points, LogFile(folder / PROGRESS)])
    if show is not None:
        bus.sinks.append(show)
    bus.emit(Event("stage", "started", stage=_STAGE))

    def note(text: str) -> None:
        bus.emit(Event("note", text, stage=_STAGE))

    if said := md.too_long(plan.settings.timestep_fs, plan.starts):
        note(said)
    replicas = md.plan_replicas(plan.starts, plan.settings, plan.seed, f"seed{plan.seed}")
    watch = None if plan.on_unknown == "ignore" else home.watch_of(potential)
    if said := home.cannot_tell(potential, plan.on_unknown):
        note(said)
    written = Written(folder, _WALK, replicas, plan.settings, watch, note)
    pace = _pace()

    def tell(done: int, total: int, text: str) -> None:
        written.update()
        bus.emit(Event("progress", _STAGE, done / total, _STAGE, data={"text": text + pace(done, total)}))

    try:
        watched = watch if plan.on_unknown == "stop" else None
        walked = md.run(potential, replicas, plan.settings, folder / _WALK, tell, watched)
    except BaseException as error:
        if isinstance(error, signals.Stopped):
            written.update()  # what MD committed on being stopped
        bus.emit(Event("run", "stopped", f"{type(error).__name__}: {error}"[:500]))
        raise
    for stop in walked.stops:
        note(stop.sentence + (" It began again." if stop.restarted else ""))
    if not written.n_frames:
        raise StageFailed(
            f"{folder}: no frame was kept. {walked.stops[0].sentence} Try a shorter timestep_fs, a lower temperature,"
            " or other limits of the guard, in another folder."
        )
    summary = summarise(replicas, plan.settings, folder / "log.csv", walked.stops, written.wall_s)
    summary |= {"model": potential.name, "versions": provenance.versions(), "hardware": provenance.hardware()}
    write_json(folder / SUMMARY, summary)
    shutil.rmtree(folder / _WALK)
    bus.emit(Event("stage", "finished", stage=_STAGE, data={"wall_s": written.wall_s}))
    return summary


def _pace() -> Callable[[int, int], str]:
    """Return a function that tells speed and time left from replica-steps done and all of them."""
    began: list[tuple[float, int]] = []

    def told(done: int, total: int) -> str:
        now_s = time.monotonic()
        if not began:
            began.append((now_s, done))
        seconds, steps = now_s - began[0][0], done - began[0][1]
        if not steps or seconds <= 0:
            return ""
        return f", {steps / seconds:.4g} steps/s, {duration((total - done) * seconds / steps)} left"

    return told
