"""What a run says of itself and hands over: what it is made from, what stands at the top of its folder, and which of
its files sinks such as MLflow may keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import disk, picked, provenance
from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.layout import MODEL, RECIPE
from ipip_ext.run.plain import flatten
from ipip_ext.run.stage import Done


def identity(recipe: Recipe) -> dict[str, Any]:
    """Return what a run is made from: recipe, versions, hardware and the hashes of its files."""
    files = {"train": recipe.data.train, **recipe.data.tests, "valid": recipe.data.valid,
             "starts": recipe.explore.starts}  # fmt: skip
    return {
        "recipe": flatten(recipe.model_dump(mode="json")),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
        "data_sha256": {key: picked.content(path) for key, path in files.items() if path is not None},
    }


def publish(folder: Path, done: Done, bus: EventBus) -> None:
    """Put table and plots where people look, and hand over what belongs to the run. done: its report."""
    names = sorted(output["file"] for output in done.record["outputs"].values())  # in memory and on disk alike
    for name in names:
        disk.write(folder / name, (done.folder / name).read_bytes())
    hand_over((RECIPE, *names, MODEL), bus)


def hand_over(names: Iterable[str], bus: EventBus) -> None:
    """Say which files and folders of a run folder are to be kept by whoever listens."""
    for name in names:
        bus.emit(Event("artifact", name, name))
