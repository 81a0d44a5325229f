"""Where the wall time of a run went, read from its folder alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipip_ext.data.tables import aligned
from ipip_ext.run.events import read_events
from ipip_ext.run.record import RECORD, read_record

COLUMNS = ("stage", "how", "n_stages", "wall_s", "share")
HERE, BESIDE, BORROWED = "here", "beside", "borrowed"

_NOTES = {
    BESIDE: "beside: in other processes, while the stages above were computed.",
    BORROWED: "borrowed: copied from another run of the grid, which spent that time.",
}
SUMMARY = "report"
"""Left out, because it holds the table itself."""

_PSEUDO, _BOUGHT = {"explore": "n_frames", "label": "n_new"}, {"ask": "n_labelled"}
"""By kind of stage, the value that counts its new labels."""


def finished(folder: Path) -> list[Path]:
    """Return the folders of the finished stages of a run, in the order in which they ended."""
    records = sorted(folder.rglob(RECORD), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in records if ".part" not in str(path.relative_to(folder))]


def times(folder: Path) -> list[dict[str, Any]]:
    """Return the wall time of a run's finished stages, summed over stages of one kind, the longest first.

    Each row has stage (the kind), n_stages, wall_s, share and how it came about: `here`, `beside` (in another
    process, while one that counts as `here` was under way) or `borrowed` (from another run of a grid). share: of all
    that is `here`; None for the rest, which comes last. A stage that was resumed counts from there.
    Raises WorkspaceError if a stage's record is broken.
    """
    how = _how(folder)
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for stage in finished(folder):
        name = stage.relative_to(folder).as_posix()
        if stage.name != SUMMARY:
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
    lanes: dict[str, int] = {}  # of stages under way: each takes the first that is free, so that no two overlap in one
    for event in read_events(folder / "events.jsonl"):
        if event.kind == "run":
            lanes.clear()  # what a kill left open
        elif event.kind == "stage" and event.name == "started":
            lanes[event.stage] = min(set(range(len(lanes) + 1)) - set(lanes.values()))
        elif event.kind == "stage" and event.name == "finished":
            how[event.stage] = BESIDE if lanes.pop(event.stage, 0) else HERE
        elif event.kind == "stage" and event.name == "borrowed":
            how[event.stage] = BORROWED
    return how


def training_costs(folder: Path, evaluations: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return what each model of a run cost, from records alone; nothing of one that came as it is.

    evaluations: by name of a model the record of its evaluation, which says what was evaluated.
    training_wall_s: wall time of all stages whose outputs went into it, each once, wherever it was computed.
    n_pseudo_labels: frames labelled without the reference on the way. n_reference_labels: frames whose reference
    labels training, validation or a correction of the teacher saw, bought ones too; zeros of energies don't count.
    """
    records = {path: read_record(path, path.relative_to(folder).as_posix()) for path in finished(folder)}
    maker: dict[str, Path] = {}
    for path, record in records.items():
        for output in record["outputs"].values():
            maker.setdefault(f"sha256:{output['sha256']}", path)  # the first that made it; later ones copied
    found = {}
    for name, evaluated in evaluations.items():
        used = _ancestors(evaluated["fingerprint"]["inputs"]["model"], maker, records)
        if used:
            found[name] = {
                "training_wall_s": round(sum(float(record.get("wall_s", 0.0)) for record in used), 3),
                "n_pseudo_labels": sum(_count(record, _PSEUDO) for record in used),
                "n_reference_labels": sum(_n_reference(record, used) for record in used),
            }
    return found


def _ancestors(
    made_of: Any, maker: Mapping[str, Path], records: Mapping[Path, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the records of the stages that `made_of` goes back to."""
    found: set[Path] = set()
    left = _hashes(made_of)
    while left:
        path = maker.get(left.pop())
        if path is not None and path not in found:
            found.add(path)
            left += _hashes(records[path]["fingerprint"]["inputs"])
    return [record for path, record in records.items() if path in found]


def _hashes(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [found for inner in value.values() for found in _hashes(inner)]
    if isinstance(value, list | tuple):
        return [found for inner in value for found in _hashes(inner)]
    return [value] if isinstance(value, str) and value.startswith("sha256:") else []


def _count(record: Mapping[str, Any], names: Mapping[str, str]) -> int:
    kind = str(record["stage"]).rsplit("/", 1)[-1]
    return int(record["values"][names[kind]]) if kind in names else 0


def _n_reference(record: Mapping[str, Any], used: Sequence[Mapping[str, Any]]) -> int:
    """Return how many reference labels of a stage the stages of a lineage saw."""
    seen = {found for other in used for found in _hashes(other["fingerprint"]["inputs"])}
    prepared = {f"n_{key}": f"sha256:{output['sha256']}" for key, output in record["outputs"].items()}
    counted = [name for name in ("n_train", "n_valid") if name in record["values"] and prepared.get(name) in seen]
    return sum(int(record["values"][name]) for name in counted) + _count(record, _BOUGHT)
