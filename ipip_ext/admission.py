"""Whether a recipe may run in a folder: is all in order, and is the folder free or this recipe's own.

Nothing here writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ipip_ext import loop, places
from ipip_ext.check import preflight
from ipip_ext.errors import WorkspaceError, did_you_mean
from ipip_ext.recipe.file import read_own
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import device, disk, fingerprint, lock
from ipip_ext.run.events import EventBus
from ipip_ext.run.layout import EVENTS, MODEL, RECIPE, is_run
from ipip_ext.run.plain import flatten
from ipip_ext.run.redo import pending
from ipip_ext.run.workspace import Unfinished, Workspace
from ipip_ext.stages.order import FIRST_STAGE, STAGES, divides

Check = Callable[[Recipe], object]

_PATHS = frozenset({"data.train", "data.valid", "data.isolated_atoms", "explore.starts", "sample.starts"})
"""Compared by content, by the stages that read them."""


def admit(recipe: Recipe, folder: Path, redo: str | None = None, check: Check = preflight.check) -> Recipe:
    """Return the recipe as it will run here; writes nothing.

    check: what to ask of recipe, data and teacher where nothing is computed yet.
    Raises UserError if recipe, data, teacher or folder are not in order.
    """
    recipe = on_this_machine(recipe)
    places.check(recipe)
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
            raise _no_such(name, folder)
    for key, old, new in changes(recipe, folder):
        stage = _first_stage(key, recipe)
        if not any(precedes(name, stage) for name in redo):
            raise WorkspaceError(
                f"{folder}: belongs to another recipe: {key} is {old!r} there and {new!r} here;"
                f" give the recipe another name, use --workdir, or start over with --redo {stage}."
            )


def _kind(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def precedes(name: str, stage: str) -> bool:
    """Tell whether to redo the stage `name` is to redo `stage` too."""
    if name.startswith("baseline-") and STAGES.index(stage) <= STAGES.index(MODEL):
        return False  # whatever its kind, it comes after the student
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
        if key.split(".")[0] in FIRST_STAGE and key not in _PATHS and not divides(key)
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

    Raises WorkspaceError for whatever the run would refuse to reuse, or a redo that it would not meet, while nothing
    is written yet.
    """
    work = Workspace(folder, EventBus([]), recipe.seed, recipe.device, redo, rehearsal=True)
    with contextlib.suppress(Unfinished):
        loop.run(recipe, work)
        for name in set(redo) - set(pending(folder)):
            raise _no_such(name, folder)
    return work.yielded


def _no_such(name: str, folder: Path) -> WorkspaceError:
    return WorkspaceError(f"--redo {name}: {folder} holds no such stage; `ipip-mace status {folder}` lists them.")
