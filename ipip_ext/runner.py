"""Everything around the loop: the run folder's recipe, the sinks, and what is published at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ipip_ext import background, loop
from ipip_ext.check import preflight
from ipip_ext.errors import WorkspaceError, did_you_mean
from ipip_ext.recipe.file import dump_recipe, read_own
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import device, disk, fingerprint, lock, provenance, signals
from ipip_ext.run.console import Console, LogFile
from ipip_ext.run.events import Event, EventBus, JsonLines
from ipip_ext.run.layout import EVENTS, LOG, MODEL, RECIPE
from ipip_ext.run.plain import flatten
from ipip_ext.run.workspace import Done, Unfinished, Workspace
from ipip_ext.tracking.mirror import MlflowMirror

Check = Callable[[Recipe], object]

_FIRST_STAGE = {
    "name": "prepare", "seed": "prepare", "data": "prepare", "teacher": "explore", "adapt": "adapt",
    "explore": "explore", "correct": "correct", "student": "pretrain", "pretrain": "pretrain", "finetune": "finetune",
    "sample": "sample", "select": "select", "label": "label", "forget": "forget",
}  # fmt: skip
"""The stage from which a change of a section matters; sections not named here may change freely,
because the stages they touch compare their own parameters."""

_PATHS = frozenset({"data.train", "data.test", "data.valid", "explore.starts", "sample.starts"})
"""Compared by content, by the stages that read them."""


def run(
    recipe: Recipe, folder: Path, redo: str | None = None, *, quiet: bool = False, check: Check = preflight.check,
    siblings: tuple[Path, ...] = (), tags: Mapping[str, str] | None = None,
) -> Done:  # fmt: skip
    """Run `recipe` in `folder`, or go on where it stands; return the report stage.

    redo: name of a stage from which to start over. siblings: see Workspace. tags: for the run's MLflow run.
    Raises UserError before anything is written if recipe, data, teacher or folder are not in order, or if another
    process is at work in the folder.
    """
    recipe = admit(recipe, folder, redo, check)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    with lock.held(folder):
        refuse_other(recipe, folder, redo)  # whoever had the lock since may have made another run of it
        try:
            return _run(recipe, folder, redo, quiet=quiet, siblings=siblings, tags=tags)
        except Exception as error:
            if why := disk.trouble(error):
                raise WorkspaceError(
                    f"{folder}: can't be written ({why}); all finished stages are intact. Mend that, and the same"
                    " command goes on from there."
                ) from error
            raise


def _run(
    recipe: Recipe, folder: Path, redo: str | None, *, quiet: bool, siblings: tuple[Path, ...],
    tags: Mapping[str, str] | None,
) -> Done:  # fmt: skip
    try:
        disk.write(folder / RECIPE, dump_recipe(recipe))
    except OSError as error:
        raise _unwritable(folder, error) from None
    bus = EventBus([signals.at_safe_points, JsonLines(folder / EVENTS), LogFile(folder / LOG)])
    if not quiet:
        bus.sinks.append(Console())
    if recipe.tracking.enabled:
        bus.sinks.append(MlflowMirror(folder, recipe.tracking, recipe.name))
    bus.emit(Event("run", "started", data=_identity(recipe) | ({"tags": dict(tags)} if tags else {})))
    second = background.Background(folder, recipe.folder)
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
    refuse_other(recipe, folder, redo)
    if not (folder / "prepare").exists() or redo == "prepare":
        check(recipe)
    else:
        preflight.check_names(recipe)
        _rehearse(recipe, folder, redo)
    return recipe


def on_this_machine(recipe: Recipe) -> Recipe:
    """Set torch's threads as the recipe says and return it with its device resolved."""
    import torch

    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    return recipe.model_copy(update={"device": device.resolve(recipe.device)})


def refuse_other(recipe: Recipe, folder: Path, redo: str | None) -> None:
    """Raise WorkspaceError if `folder` is no run folder, or belongs to a recipe that differs where it matters."""
    if redo is not None and (stage := redo.rsplit("/", 1)[-1]) not in loop.STAGES:
        raise WorkspaceError(f"--redo {redo}: no such stage.{did_you_mean(stage, loop.STAGES)}")
    if folder.exists() and not folder.is_dir():
        raise WorkspaceError(f"{folder}: is a file; name a folder with --workdir.")
    if is_untouched(folder):
        return
    if redo is not None and "/" in redo and not any((folder / name).exists() for name in (redo, f"{redo}.part")):
        raise WorkspaceError(f"--redo {redo}: {folder} holds no such stage; `ipip-mace status {folder}` lists them.")
    for key, old, new in changes(recipe, folder):
        stage = _first_stage(key, recipe)
        if redo is None or loop.STAGES.index(redo.rsplit("/", 1)[-1]) > loop.STAGES.index(stage):
            raise WorkspaceError(
                f"{folder}: belongs to another recipe: {key} is {old!r} there and {new!r} here;"
                f" give the recipe another name, use --workdir, or start over with --redo {stage}."
            )


def _first_stage(key: str, recipe: Recipe) -> str:
    """Return the stage to redo for a change of `key`: one that `recipe` runs, as --redo finds no other."""
    section, _, rest = key.partition(".")
    stage = "ask" if section == "label" and rest.startswith("reference") else _FIRST_STAGE[section]
    runs = {"adapt": recipe.adapt is not None, "correct": recipe.corrects, "ask": recipe.label.reference is not None}
    return stage if runs.get(stage, True) else {"ask": "label"}.get(stage, "pretrain")


def is_untouched(folder: Path) -> bool:
    """Return whether `folder` is not there, empty, or holds only what a run leaves that was killed at its outset."""
    return not folder.exists() or all(
        lock.is_ours(path.name) or path.name == RECIPE + disk.PART for path in folder.iterdir()
    )


def changes(recipe: Recipe, folder: Path) -> list[tuple[str, Any, Any]]:
    """Return (key, there, here) for each key that matters and differs from the folder's own recipe.

    A key that the package did not have when the folder was made counts as its default.
    """
    path = folder / RECIPE
    if not path.is_file():
        raise WorkspaceError(f"{folder}: is not empty and holds no {RECIPE}; name another folder with --workdir.")
    try:
        there = read_own(path.read_text(encoding="utf-8"))
    except ValueError:
        there = None
    if not isinstance(there, Mapping):
        raise WorkspaceError(f"{path}: is corrupt; put the recipe back, or use --workdir for a new run.")
    return [
        (key, old, new)
        for key, (old, new) in fingerprint.differences(there, fingerprint.plain(recipe)).items()
        if key.split(".")[0] in _FIRST_STAGE and key not in _PATHS
    ]


def _rehearse(recipe: Recipe, folder: Path, redo: str | None) -> None:
    """Raise WorkspaceError for whatever the run would refuse to reuse, while nothing is written yet."""
    with contextlib.suppress(Unfinished):
        loop.run(recipe, Workspace(folder, EventBus([]), recipe.seed, recipe.device, redo, rehearsal=True))


def _identity(recipe: Recipe) -> dict[str, Any]:
    files = {"train": recipe.data.train, "test": recipe.data.test, "valid": recipe.data.valid,
             "starts": recipe.explore.starts}  # fmt: skip
    return {
        "recipe": flatten(recipe.model_dump(mode="json")),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
        "data_sha256": {key: provenance.sha256(path) for key, path in files.items() if path is not None},
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
