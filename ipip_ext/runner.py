"""Around the loop: the lock, the folder's recipe, the sinks, what is withdrawn at the beginning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ipip_ext import background, loop
from ipip_ext.admission import Check, admit, differences, is_untouched, precedes, redoing, refuse_other
from ipip_ext.check import preflight
from ipip_ext.errors import WorkspaceError
from ipip_ext.publishing import identity, publish
from ipip_ext.recipe.file import dump_recipe
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import disk, lock, signals
from ipip_ext.run.console import Console, LogFile
from ipip_ext.run.events import Event, EventBus, JsonLines, Sink
from ipip_ext.run.layout import EVENTS, FINDINGS, LOG, MODEL, RECIPE
from ipip_ext.run.redo import intend, withdraw
from ipip_ext.run.stage import Done
from ipip_ext.run.workspace import Workspace
from ipip_ext.tracking.mirror import MlflowMirror


def run(
    recipe: Recipe, folder: Path, redo: str | None = None, *, quiet: bool = False, show: Sink | None = None,
    check: Check = preflight.check, siblings: tuple[Path, ...] = (), tags: Mapping[str, str] | None = None,
) -> Done:  # fmt: skip
    """Run `recipe` in `folder`, or go on where it stands; return the report stage.

    redo: name of a stage from which to start over. quiet: show nothing; show: what is shown all events, unless quiet;
    None: the terminal. siblings: see Workspace. tags: for the run's MLflow run.
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
    with lock.held(folder):
        refuse_other(recipe, folder, stages)  # whoever had the lock since may have made another run of it
        try:
            shown = None if quiet else show or Console()
            return _run(recipe, folder, stages, show=shown, siblings=siblings, tags=tags, found=found)
        except Exception as error:
            if why := disk.trouble(error):
                raise WorkspaceError(
                    f"{folder}: can't be written ({why}); all finished stages are intact. Mend that, and the same"
                    " command goes on from there."
                ) from error
            raise


def _run(
    recipe: Recipe, folder: Path, redo: tuple[str, ...], *, show: Sink | None, siblings: tuple[Path, ...],
    tags: Mapping[str, str] | None, found: Sequence[object],
) -> Done:  # fmt: skip
    findings = [said for one in found for said in preflight.findings_of(one)]
    try:
        is_other = not is_untouched(folder) and bool(differences(recipe, folder))
        if redo:
            intend(folder, redo)
        (folder / EVENTS).touch()  # by it the folder is known for a run's, and the recipe in it for ours
        disk.write(folder / RECIPE, dump_recipe(recipe))
        if found:
            disk.write(folder / FINDINGS, json.dumps(findings, indent=1))
    except OSError as error:
        raise _unwritable(folder, error) from None
    bus = EventBus([signals.at_safe_points, JsonLines(folder / EVENTS), LogFile(folder / LOG)])
    if show is not None:
        bus.sinks.append(show)
    if recipe.tracking.enabled:
        bus.sinks.append(MlflowMirror(folder, recipe.tracking, recipe.name))
    bus.emit(Event("run", "started", data=identity(recipe) | ({"tags": dict(tags)} if tags else {})))
    if is_other or redo:
        withdraw(folder, model=any(precedes(name, MODEL) for name in redo))
        bus.emit(
            Event("run", "withdrawn", f"starts over from {' and '.join(redo)}" if redo else "the recipe has changed")
        )
    for said in findings:
        bus.emit(Event("note", f"warning: {said}"))
    second = background.Background(folder, recipe.folder, bus)
    aside = second.before if not (redo or siblings) and background.is_worthwhile(recipe) else None
    try:
        work = Workspace(
            folder, bus, recipe.seed, recipe.device, redo, recipe.folder, siblings=siblings, before=aside,
            spare_processes=background.spare_processes(recipe),
        )  # fmt: skip
        done = loop.run(recipe, work)
    except BaseException as error:
        bus.emit(Event("run", "stopped", f"{type(error).__name__}: {error}"[:500]))
        raise
    finally:
        second.stop()
    publish(folder, done, bus)
    bus.emit(Event("run", "finished"))
    return done


def _unwritable(folder: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(f"{folder}: can't be written ({error.strerror}); use --workdir for another place.")
