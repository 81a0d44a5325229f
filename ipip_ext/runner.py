"""Everything around the loop: the run folder's recipe, the sinks, and what is published at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ipip_ext import loop, preflight, provenance
from ipip_ext.console import Console, LogFile
from ipip_ext.errors import WorkspaceError, did_you_mean
from ipip_ext.events import Event, EventBus, JsonLines
from ipip_ext.recipe import Recipe
from ipip_ext.recipe_file import dump_recipe
from ipip_ext.schema import flatten
from ipip_ext.tracking import MlflowMirror
from ipip_ext.workspace import Done, Workspace

RECIPE, EVENTS, LOG, TABLE = "recipe.yaml", "events.jsonl", "log.txt", "compare.csv"

_FIRST_STAGE = {
    "name": "prepare", "seed": "prepare", "data": "prepare", "teacher": "explore", "explore": "explore",
    "student": "pretrain", "pretrain": "pretrain", "finetune": "finetune", "sample": "sample", "select": "select",
    "label": "label", "forget": "forget",
}  # fmt: skip
"""The stage from which a change of a section matters; sections not named here may change freely,
because the stages they touch compare their own parameters."""

_PATHS = frozenset({"data.train", "data.test", "data.valid", "explore.starts", "sample.starts"})
"""Compared by content, by the stages that read them."""


def run(recipe: Recipe, folder: Path, redo: str | None = None, *, quiet: bool = False) -> Done:
    """Run `recipe` in `folder`, or go on where it stands; return the report stage.

    redo: name of a stage from which to start over.
    Raises UserError before anything is written if recipe, data, teacher or folder are not in order.
    """
    recipe = recipe.model_copy(update={"device": resolve_device(recipe.device)})
    refuse_other(recipe, folder, redo)
    if not (folder / "prepare").exists() or redo == "prepare":
        preflight.check(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / RECIPE, dump_recipe(recipe))
    bus = EventBus([JsonLines(folder / EVENTS), LogFile(folder / LOG)])
    if not quiet:
        bus.sinks.append(Console())
    if recipe.tracking.enabled:
        bus.sinks.append(MlflowMirror(folder, recipe.tracking, recipe.name))
    bus.emit(Event("run", "started", data=_identity(recipe)))
    try:
        done = loop.run(recipe, Workspace(folder, bus, recipe.seed, recipe.device, redo, recipe.folder))
    except BaseException as error:
        bus.emit(Event("run", "stopped", f"{type(error).__name__}: {error}"[:500]))
        raise
    _publish(folder, done, bus)
    return done


def resolve_device(wanted: str) -> str:
    """Return cpu, cuda or cuda:N; `auto` takes a GPU where there is one."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise WorkspaceError(f"device: {wanted} is not there (torch sees no GPU); use auto or cpu.")
    return wanted


def refuse_other(recipe: Recipe, folder: Path, redo: str | None) -> None:
    """Raise WorkspaceError if `folder` is no run folder, or belongs to a recipe that differs where it matters."""
    if redo is not None and redo.rsplit("/", 1)[-1] not in loop.STAGES:
        raise WorkspaceError(f"--redo {redo}: no such stage.{did_you_mean(redo, loop.STAGES)}")
    if not folder.exists() or not any(folder.iterdir()):
        return
    for key, old, new in changes(recipe, folder):
        stage = _FIRST_STAGE[key.split(".")[0]]
        if redo is None or loop.STAGES.index(redo.rsplit("/", 1)[-1]) > loop.STAGES.index(stage):
            raise WorkspaceError(
                f"{folder}: belongs to another recipe: {key} is {old!r} there and {new!r} here;"
                f" give the recipe another name, use --workdir, or start over with --redo {stage}."
            )


def changes(recipe: Recipe, folder: Path) -> list[tuple[str, Any, Any]]:
    """Return (key, there, here) for each key that matters and differs from the folder's own recipe."""
    path = folder / RECIPE
    if not path.is_file():
        raise WorkspaceError(f"{folder}: is not empty and holds no {RECIPE}; name another folder with --workdir.")
    try:
        there = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        there = None
    if not isinstance(there, Mapping):
        raise WorkspaceError(f"{path}: is corrupt; put the recipe back, or use --workdir for a new run.")
    old, new = flatten(there), flatten(recipe.model_dump(mode="json"))
    return [
        (key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if key.split(".")[0] in _FIRST_STAGE and key not in _PATHS and old.get(key) != new.get(key)
    ]


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
    for path in (done.csv, done.table, done.parity, done.iterations):
        part = folder / (path.name + ".part")
        shutil.copyfile(path, part)
        os.replace(part, folder / path.name)
    for name in (RECIPE, TABLE, done.table.name, done.parity.name, done.iterations.name, "model"):
        bus.emit(Event("artifact", name, name))
    bus.emit(Event("run", "finished"))


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
