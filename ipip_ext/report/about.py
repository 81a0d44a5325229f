"""What a report says of where its numbers are from, read from the run folder; no paths, and nothing of the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipip_ext.measure.timing import SUMMARY, finished
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run.layout import FINDINGS
from ipip_ext.run.plain import flatten
from ipip_ext.run.record import read_record

_SHA256 = "sha256:"


def about(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return name, seed, recipe, hashes of the data, and the versions and hardware of all finished stages.

    Files are named without their folders, and the tracking store, whose address may hold a password, is left out:
    reports are for others to read. Raises WorkspaceError if a stage's record is broken.
    """
    prepared = read_record(folder / "prepare", "prepare")
    stages = [path for path in finished(folder) if path.name != SUMMARY]
    records = [read_record(path, path.relative_to(folder).as_posix()) for path in stages]
    given = prepared["fingerprint"]["inputs"]
    return {
        "name": recipe.name,
        "seed": recipe.seed,
        "recipe": _shown(recipe.model_dump(exclude={"tracking"})),
        "data_sha256": {
            key.replace("test.", "test_", 1): value.removeprefix(_SHA256)
            for key, value in flatten(given).items()
            if isinstance(value, str) and value.startswith(_SHA256)
        },
        "n_train": prepared["values"]["n_train"],
        "n_valid": prepared["values"]["n_valid"],
        "versions": _gathered(record.get("versions", {}) for record in records),
        "hardware": _gathered(record.get("hardware", {}) for record in records),
        "warnings": _warnings(folder / FINDINGS),
    }


def _warnings(path: Path) -> list[str]:
    """Return what was found odd before the run; nothing of a run that an older version began."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return [str(said) for said in found] if isinstance(found, list) else []


def _gathered(found: Any) -> dict[str, str]:
    """Return all values of each key: a run may have gone on elsewhere."""
    values: dict[str, dict[str, None]] = {}
    for one in found:
        for key, value in one.items():
            values.setdefault(key, {})[str(value)] = None
    return {key: "; ".join(some) for key, some in values.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): _shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in value]
    return value
