"""Around the loop: the lock, the folder's recipe, the sinks, what is withdrawn at the beginning."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ipip_ext import loop, places
from ipip_ext.admission import Check, admit, differences, is_untouched, precedes, redoing, refuse_other
from ipip_ext.check import preflight
from ipip_ext.errors import WorkspaceError
from ipip_ext.publishing import identity, publish
from ipip_ext.recipe.file import dump_recipe
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import disk, leftovers, lock, signals
from ipip_ext.run.console import Console, LogFile
from ipip_ext.run.events import Event, EventBus, JsonLines, Sink
from ipip_ext.run.layout import EVENTS, FINDINGS, LOG, MODEL, RECIPE
from ipip_ext.run.redo import intend, settle, withdraw
from ipip_ext.run.stage import Done, Surroundings
from ipip_ext.run.workspace import Unfinished, Workspace
from ipip_ext.stages.order import NO_MODEL_OF, divides
from ipip_ext.tracking.mirror import MlflowMirror


def run(
    recipe: Recipe, folder: Path, redo: str | None = None, *, quiet: bool = False, show: Sink | None = None,
    check: Check = preflight.check, siblings: tuple[Path, ...] = (), tags: Mapping[str, str] | None = None,
    times: bool = True,
) -> Done | None:  # fmt: skip
    """Run `recipe` in `folder`, or go on where it stands; return the report stage, None if it has not `times`.

    redo: name of a stage from which to start over. quiet: show nothing; show: what is shown all events, unless quiet;
    None: the terminal. siblings, times: see Workspace. tags: for the run's MLflow run.
    It sets torch's threads and more that is the whole process's, see `run.state.kept`.
    Raises UserError before anything is written if recipe, data, teacher or folder are not in order, or if another
    process is at work in the folder.
    """
    found: list[object] = []
    recipe = admit(recipe, folder, redo, lambda recipe: found.append(check(recipe)))
    stages = redoing(folder, redo)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    with lock.held(folder) as owner:
        refuse_other(recipe, folder, stages)  # whoever had the lock since may have made another run of it
        stages = () if is_untouched(folder) else stages
        is_known = not stages
        try:
            if stages:
                _remember(stages, folder)
                is_known = True
            shown = None if quiet else show or Console()
            with _disk_told(folder):
                return _run(recipe, folder, stages, show=shown, siblings=siblings, tags=tags, found=found,
                            owner=owner, times=times)  # fmt: skip
        except signals.Stopped as stop:
            stop.has_begun = is_known
            raise


def _run(
    recipe: Recipe, folder: Path, redo: tuple[str, ...], *, show: Sink | None, siblings: tuple[Path, ...],
    tags: Mapping[str, str] | None, found: Sequence[object], owner: str, times: bool,
) -> Done | None:  # fmt: skip
    findings = [said for one in found for said in preflight.findings_of(one)]
    try:
        bus = _begin(recipe, folder, redo, show)
        if found:
            disk.write(folder / FINDINGS, json.dumps(findings, indent=1))
    except OSError as error:
        raise _unwritable(folder, error) from None
    if recipe.tracking.enabled:
        bus.sinks.append(MlflowMirror(folder, recipe.tracking, recipe.name))
    bus.emit(Event("run", "started", data=identity(recipe) | ({"tags": dict(tags)} if tags else {})))
    for said in findings:
        bus.emit(Event("note", f"warning: {said}"))
    leftovers.end(folder, lambda said: bus.emit(Event("note", said)))
    place = places.place_of(recipe, folder)
    try:
        around = Surroundings(recipe.device, recipe.folder, folder, recipe.threads, owner)
        work = Workspace(
            folder, bus, recipe.seed, recipe.device, redo, recipe.folder, siblings=siblings,
            scheduler=places.scheduler_of(recipe, place, bus, around), times=times,
        )  # fmt: skip
        done = loop.run(recipe, work)
        work.wait()
    except Unfinished:
        bus.emit(Event("run", "stopped", "all is computed but what is timed"))
        return None
    except BaseException as error:
        bus.emit(Event("run", "stopped", f"{type(error).__name__}: {error}"[:500]))
        raise
    finally:
        if place is not None:
            place.stop()
    settle(folder)
    publish(folder, done, bus)
    bus.emit(Event("run", "finished"))
    return done


def _remember(redo: tuple[str, ...], folder: Path) -> None:
    try:
        intend(folder, redo)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _begin(recipe: Recipe, folder: Path, redo: tuple[str, ...], show: Sink | None) -> EventBus:
    """Make the folder this recipe's, and return who is to hear of it.

    What was made by another recipe is withdrawn, and that is told, before this one's is written: a kill may come
    between any two of these.
    """
    differ = {} if is_untouched(folder) else differences(recipe, folder)
    bus = EventBus([signals.at_safe_points, JsonLines(folder / EVENTS), LogFile(folder / LOG)])
    if show is not None:
        bus.sinks.append(show)
    if differ or redo:
        is_other_model = any(key.split(".")[0] not in NO_MODEL_OF and not divides(key) for key in differ)
        withdraw(folder, model=is_other_model or any(precedes(name, MODEL) for name in redo))
        why = f"starts over from {' and '.join(redo)}" if redo else "the recipe has changed"
        bus.emit(Event("run", "withdrawn", why))
    (folder / EVENTS).touch()  # by it the folder is known for a run's, and the recipe in it for ours
    disk.write(folder / RECIPE, dump_recipe(recipe))
    return bus


@contextlib.contextmanager
def _disk_told(folder: Path) -> Iterator[None]:
    """Tell trouble with the disk in a line."""
    try:
        yield
    except Exception as error:
        if why := disk.trouble(error):
            raise WorkspaceError(
                f"{folder}: can't be written ({why}); all finished stages are intact. Mend that, and the same"
                " command goes on from there."
            ) from error
        raise


def _unwritable(folder: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(f"{folder}: can't be written ({error.strerror}); use --workdir for another place.")
