"""Where the wall time of a run went, read from its folder alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipip_ext.events import read_events
from ipip_ext.tables import aligned
from ipip_ext.workspace import RECORD, read_record

COLUMNS = ("stage", "how", "n_stages", "wall_s", "share")
HERE, BESIDE, BORROWED = "here", "beside", "borrowed"

_NOTES = {
    BESIDE: "beside: in a second process, while the stages above were computed.",
    BORROWED: "borrowed: copied from another run of the grid, which spent that time.",
}
_SECOND_PROCESS = "scratch"
"""The only kind of stage that a second process computes."""
_SUMMARY = "report"
"""Left out, because it holds the table itself."""


def finished(folder: Path) -> list[Path]:
    """Return the folders of the finished stages of a run, in the order in which they ended."""
    records = sorted(folder.rglob(RECORD), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in records if ".part" not in str(path.relative_to(folder))]


def times(folder: Path) -> list[dict[str, Any]]:
    """Return the wall time of a run's finished stages, summed over stages of one kind, the longest first.

    Each row has stage (the kind), n_stages, wall_s, share and how it came about: `here`, `beside` (in a second
    process, so not in the way of the others) or `borrowed` (from another run of a grid). share: of all that is
    `here`; None for the rest, which comes last. A stage that was resumed counts from there.
    Raises WorkspaceError if a stage's record is broken.
    """
    how = _how(folder)
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for stage in finished(folder):
        name = stage.relative_to(folder).as_posix()
        if stage.name != _SUMMARY:
            wall_s = float(read_record(stage, name).get("wall_s", 0.0))
            seconds[stage.name, how.get(name, HERE)].append(wall_s)
    total = sum(sum(some) for (_, way), some in seconds.items() if way == HERE)
    rows = [
        {
            "stage": kind,
            "how": way,
            "n_stages": len(some),
            "wall_s": round(sum(some), 3),
            "share": round(sum(some) / max(total, 1e-9), 4) if way == HERE else None,
        }
        for (kind, way), some in seconds.items()
    ]
    return sorted(rows, key=lambda row: (row["how"] != HERE, -row["wall_s"], row["stage"]))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return `times` as text."""
    here = [row for row in rows if row["how"] == HERE]
    lines = [["where the time went", "stages", "wall s", "share"]]
    lines += [[row["stage"], str(row["n_stages"]), f"{row['wall_s']:.0f}", f"{row['share']:.0%}"] for row in here]
    lines.append(["all", str(sum(row["n_stages"] for row in here)), f"{sum(row['wall_s'] for row in here):.0f}", ""])
    others = [row for row in rows if row["how"] != HERE]
    lines += [[f"{row['stage']} ({row['how']})", str(row["n_stages"]), f"{row['wall_s']:.0f}", ""] for row in others]
    notes = [note for way, note in _NOTES.items() if any(row["how"] == way for row in others)]
    return "\n".join([aligned(lines, left=1), *notes])


def _how(folder: Path) -> dict[str, str]:
    """Return how each stage last came about, by the events of the run."""
    how: dict[str, str] = {}
    under_way: dict[str, bool] = {}  # and whether other stages were too
    for event in read_events(folder / "events.jsonl"):
        if event.kind == "run":
            under_way.clear()  # what a kill left open
        elif event.kind == "stage" and event.name == "started":
            under_way = dict.fromkeys(under_way, True) | {event.stage: bool(under_way.keys() - {event.stage})}
        elif event.kind == "stage" and event.name == "finished":
            had_company = under_way.pop(event.stage, False)
            is_second = event.stage.endswith(f"/{_SECOND_PROCESS}")
            how[event.stage] = BESIDE if is_second and had_company else HERE
        elif event.kind == "stage" and event.name == "borrowed":
            how[event.stage] = BORROWED
    return how
