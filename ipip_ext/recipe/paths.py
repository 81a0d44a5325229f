"""Paths in a recipe: relative to its folder."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

_PATHS = (
    "data.train", "data.test", "data.valid", "data.isolated_atoms", "explore.starts", "sample.starts",
    "evaluate.stability.starts", "evaluate.properties.starts", "evaluate.properties.strained",
    "evaluate.properties.trajectory",
)  # fmt: skip


def absolute(raw: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return a copy of `raw` in which the paths of `_PATHS` and model files are absolute; root: where they start."""
    raw = copy.deepcopy(raw)
    for path in _PATHS:
        *sections, key = path.split(".")
        holder: Any = raw
        for section in sections:
            holder = holder.get(section) if isinstance(holder, dict) else None
        given = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(given, str):
            holder[key] = str((root / given).resolve())
        elif isinstance(given, dict):  # named sets of frames
            holder[key] = {name: str((root / p).resolve()) if isinstance(p, str) else p for name, p in given.items()}
    teacher = raw.get("teacher")
    if isinstance(teacher, dict):
        for key in ("mace", "chgnet"):
            file = root / str(teacher.get(key, ""))
            if key in teacher and file.is_file():
                teacher[key] = str(file.resolve())
    baselines = raw.get("baselines")
    for baseline in baselines if isinstance(baselines, list) else ():
        if isinstance(baseline, dict) and isinstance(baseline.get("replay"), str):
            baseline["replay"] = str((root / baseline["replay"]).resolve())
    return raw
