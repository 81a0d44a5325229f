"""Everything around the loop: the run folder's recipe, the sinks, and what is published at the end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ipip_ext import background, loop
from ipip_ext.check import preflight
from ipip_ext.errors import WorkspaceError, did_you_mean
from ipip_ext.recipe.file import dump_recipe, read_own
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import device, disk, fingerprint, lock, picked, provenance, signals
from ipip_ext.run.console import Console, LogFile
from ipip_ext.run.events import Event, EventBus, JsonLines, Sink
from ipip_ext.run.layout import EVENTS, FINDINGS, LOG, MODEL, RECIPE, is_run
from ipip_ext.run.plain import flatten
from ipip_ext.run.redo import intend, pending, withdraw
from ipip_ext.run.stage import Done
from ipip_ext.run.workspace import Unfinished, Workspace
from ipip_ext.stages.order import DIVIDES, FIRST_STAGE, STAGES
from ipip_ext.tracking.mirror import MlflowMirror

Check = Callable[[Recipe], object]

_PATHS = frozenset({"data.train", "data.test", "data.valid", "data.isolated_atoms", "explore.starts", "sample.starts"})
"""Compared by content, by the stages that read them."""

_DIVIDES = tuple(f"{key}." for key in DIVIDES)


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
    bus.emit(Event("run", "started", data=_identity(recipe) | ({"tags": dict(tags)} if tags else {})))
    if is_other or redo:
        withdraw(folder, model=any(_precedes(name, MODEL) for name in redo))
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
    _publish(folder, done, bus)
    return done


def admit(recipe: Recipe, folder: Path, redo: str | None = None, check: Check = preflight.check) -> Recipe:
    """Return the recipe as it will run here; writes nothing.

    check: what to ask of recipe, data and teacher where nothing is computed yet.
    Raises UserError if recipe, data, teacher or folder are not in order.
    """
    recipe = on_this_machine(recipe)
    if folder.is_dir():
        lock.refuse_if_held(folder)
    stages = redoing(folder, redo)
    refuse_other(recipe, folder, stages)
    if not (folder / "prepare").exists() or "prepare" in stages:
        check(recipe)
    else:
        preflight.check_names(recipe)
        if "prepare" in _rehearse(recipe, folder, stages):  # for test frames that nobody has looked at yet
            check(recipe)
            preflight.check_unseen(recipe, folder)
    return recipe


def redoing(folder: Path, redo: str | None) -> tuple[str, ...]:
    """Return the stages to redo: the one asked for, and those of a redo that was stopped before it had begun."""
    return tuple(dict.fromkeys([*([] if redo is None else [redo]), *pending(folder)]))


def on_this_machine(recipe: Recipe) -> Recipe:
    """Set torch's threads as the recipe says and return it with its device resolved."""
    import torch

    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    return recipe.model_copy(update={"device": device.resolve(recipe.device)})


def refuse_other(recipe: Recipe, folder: Path, redo: tuple[str, ...]) -> None:
    """Raise WorkspaceError if `folder` is no run folder, or belongs to a recipe that differs where it matters."""
    for name in redo:
        if (kind := _kind(name)) not in STAGES:
            raise WorkspaceError(f"--redo {name}: no such stage.{did_you_mean(kind, STAGES)}")
    if folder.exists() and not folder.is_dir():
        raise WorkspaceError(f"{folder}: is a file; name a folder with --workdir.")
    refuse_home(recipe, folder)
    if is_untouched(folder):
        return
    for name in set(redo) - set(pending(folder)):  # of those nothing may be left
        if "/" in name and not any((folder / place).exists() for place in (name, f"{name}.part")):
            raise WorkspaceError(
                f"--redo {name}: {folder} holds no such stage; `ipip-mace status {folder}` lists them."
            )
    for key, old, new in changes(recipe, folder):
        stage = _first_stage(key, recipe)
        if not any(_precedes(name, stage) for name in redo):
            raise WorkspaceError(
                f"{folder}: belongs to another recipe: {key} is {old!r} there and {new!r} here;"
                f" give the recipe another name, use --workdir, or start over with --redo {stage}."
            )


def _kind(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _precedes(name: str, stage: str) -> bool:
    """Tell whether to redo the stage `name` is to redo `stage` too."""
    return STAGES.index(_kind(name)) <= STAGES.index(stage)


def _first_stage(key: str, recipe: Recipe) -> str:
    """Return the stage to redo for a change of `key`: one that `recipe` runs, as --redo finds no other."""
    section, _, rest = key.partition(".")
    stage = "ask" if section == "label" and rest.startswith("reference") else FIRST_STAGE[section]
    runs = {"adapt": recipe.adapt is not None, "correct": recipe.corrects, "ask": recipe.label.reference is not None}
    return stage if runs.get(stage, True) else {"ask": "label"}.get(stage, "pretrain")


def refuse_home(recipe: Recipe, folder: Path) -> None:
    """Raise WorkspaceError if `folder` is where the recipe's file stands: a run writes its recipe there.

    The recipe of a run folder may go on in it.
    """
    file = recipe.folder / Path(recipe.file).name
    if file.is_file() and folder.is_dir() and folder.samefile(recipe.folder) and not is_run(folder):
        raise WorkspaceError(
            f"{folder}: is the folder of the recipe, not of a run; name another folder with --workdir."
        )


def is_untouched(folder: Path) -> bool:
    """Return whether `folder` is not there, empty, or holds only what a run leaves that was killed at its outset."""

    def is_of_the_outset(path: Path) -> bool:
        if path.name == EVENTS:
            return path.stat().st_size == 0
        return lock.is_ours(path.name) or path.name == RECIPE + disk.PART

    return not folder.exists() or all(map(is_of_the_outset, folder.iterdir()))


def changes(recipe: Recipe, folder: Path) -> list[tuple[str, Any, Any]]:
    """Return (key, there, here) for each key that matters and differs from the folder's own recipe."""
    return [
        (key, old, new)
        for key, (old, new) in differences(recipe, folder).items()
        if key.split(".")[0] in FIRST_STAGE and key not in _PATHS and not f"{key}.".startswith(_DIVIDES)
    ]


def differences(recipe: Recipe, folder: Path) -> dict[str, tuple[Any, Any]]:
    """Return what differs from the folder's own recipe: by key, what it is there and here.

    A key that the package did not have when the folder was made counts as its default.
    """
    path = folder / RECIPE
    if not path.is_file():
        raise WorkspaceError(f"{folder}: is not empty and holds no {RECIPE}; name another folder with --workdir.")
    if not is_run(folder):
        raise WorkspaceError(f"{path}: was written by no run; name another folder with --workdir.")
    try:
        there = read_own(path.read_text(encoding="utf-8"))
    except ValueError:
        there = None
    if not isinstance(there, Mapping):
        raise WorkspaceError(f"{path}: is corrupt; put the recipe back, or use --workdir for a new run.")
    paths = flatten(recipe.model_dump(mode="json"))  # these alone tell where files are, which count by content
    return {
        key: (old, new)
        for key, (old, new) in fingerprint.differences(there, fingerprint.plain(recipe)).items()
        if new is not None or paths.get(key) is None
    }


def _rehearse(recipe: Recipe, folder: Path, redo: tuple[str, ...]) -> Sequence[str]:
    """Return the finished stages that would be made anew, since only the comparison depends on what has changed.

    Raises WorkspaceError for whatever the run would refuse to reuse, while nothing is written yet.
    """
    work = Workspace(folder, EventBus([]), recipe.seed, recipe.device, redo, rehearsal=True)
    with contextlib.suppress(Unfinished):
        loop.run(recipe, work)
    return work.yielded


def _identity(recipe: Recipe) -> dict[str, Any]:
    files = {"train": recipe.data.train, **recipe.data.tests, "valid": recipe.data.valid,
             "starts": recipe.explore.starts}  # fmt: skip
    return {
        "recipe": flatten(recipe.model_dump(mode="json")),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
        "data_sha256": {key: picked.content(path) for key, path in files.items() if path is not None},
    }


def _publish(folder: Path, done: Done, bus: EventBus) -> None:
    """Put table and plots where people look, and say which files belong to the run."""
    names = sorted(output["file"] for output in done.record["outputs"].values())  # in memory and on disk alike
    for name in names:
        disk.write(folder / name, (done.folder / name).read_bytes())
    for name in (RECIPE, *names, MODEL):
        bus.emit(Event("artifact", name, name))
    bus.emit(Event("run", "finished"))


def _unwritable(folder: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(f"{folder}: can't be written ({error.strerror}); use --workdir for another place.")
