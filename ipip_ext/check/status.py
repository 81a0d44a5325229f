"""Where a run stands, read from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path

from ipip_ext.errors import WorkspaceError
from ipip_ext.measure import timing
from ipip_ext.run.record import PART_RECORD, read_record


def describe(folder: Path) -> str:
    """Return a line for each finished stage, what is under way, and where the time went.

    Raises WorkspaceError for a foreign folder.
    """
    if not (folder / "recipe.yaml").is_file():
        raise WorkspaceError(f"{folder}: is no run folder (it holds no recipe.yaml); runs are made by `ipip-mace run`.")
    lines = [_finished(stage, folder) for stage in timing.finished(folder)]
    lines += [_under_way(path, folder) for path in sorted(folder.rglob(PART_RECORD))]
    if (folder / "compare.csv").is_file():
        lines.append(f"finished: `ipip-mace compare {folder}` shows the table")
    else:
        lines.append(
            f"not finished: `ipip-mace run` with its recipe goes on from here (last word in {folder / 'log.txt'})"
        )
    spent = timing.times(folder)
    return "\n".join([*lines, "", timing.table(spent)] if spent else lines)


def _finished(stage: Path, folder: Path) -> str:
    record = read_record(stage, str(stage.relative_to(folder)))
    said = ", ".join(f"{key} {_short(value)}" for key, value in record["values"].items() if _short(value))
    return f"done      {stage.relative_to(folder)!s:28s} {record.get('wall_s', 0.0):8.0f} s  {said}"


def _under_way(path: Path, folder: Path) -> str:
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["stage"]
    except (ValueError, KeyError, TypeError, RecursionError):
        name = str(path.parent.relative_to(folder))
    return f"under way {name}"


def _short(value: object) -> str:
    if isinstance(value, dict) and isinstance(value.get("force_mae_meV_per_A"), int | float):
        return f"{value['force_mae_meV_per_A']:.0f} meV/A"
    return str(value) if isinstance(value, int | float | str) else ""
