"""Where a run stands, read from its folder alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipip_ext.measure import timing
from ipip_ext.report.html import parts
from ipip_ext.run import waiting
from ipip_ext.run.layout import LOG, TABLE, require_run
from ipip_ext.run.printable import printable
from ipip_ext.run.record import PART_RECORD, read_record
from ipip_ext.run.waiting import Waiting


@dataclass(frozen=True)
class Finished:
    """A stage that is done. values: what it said of itself."""

    stage: str
    wall_s: float
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """The values that have a short form, in a line."""
        return ", ".join(f"{key} {_short(value)}" for key, value in self.values.items() if _short(value))


@dataclass(frozen=True)
class Status:
    """Where the run in `folder` stands.

    done: its finished stages, in the order in which they ended. under_way: names of stages that were begun.
    jobs: what a run that is at work waits for and has running, where it hands stages to other processes.
    is_finished: whether its comparison stands. times: rows of `measure.timing.times`: where the time went.
    """

    folder: Path
    done: Sequence[Finished]
    under_way: Sequence[str]
    jobs: Sequence[Waiting]
    is_finished: bool
    times: Sequence[Mapping[str, Any]]

    def __str__(self) -> str:
        lines = [f"done      {one.stage:28s} {one.wall_s:8.0f} s  {one.said}" for one in self.done]
        told = {job.stage: job for job in self.jobs}
        lines += [f"under way {stage}" for stage in self.under_way if stage not in told]
        lines += map(str, self.jobs)
        lines.append(self._verdict)
        return printable("\n".join([*lines, "", timing.table(self.times)] if self.times else lines))

    def _repr_html_(self) -> str:
        lines = [("stage", "state", "wall s", "")]
        lines += [(one.stage, "done", f"{one.wall_s:.0f}", one.said) for one in self.done]
        told = {job.stage for job in self.jobs}
        lines += [(stage, "under way", "", "") for stage in self.under_way if stage not in told]
        lines += [(job.stage, job.state, "", job.where) for job in self.jobs]
        return parts.join(parts.table(lines, left=2), parts.paragraph(self._verdict))

    @property
    def _verdict(self) -> str:
        if self.is_finished:
            return f"finished: `ipip-mace compare {self.folder}` shows the table"
        return f"not finished: `ipip-mace run` with its recipe goes on from here (last word in {self.folder / LOG})"


def status(folder: Path) -> Status:
    """Return where the run in `folder` stands. Raises WorkspaceError for a foreign folder or a broken record."""
    require_run(folder)
    return Status(
        folder=folder,
        done=[_finished(stage, folder) for stage in timing.finished(folder)],
        under_way=[_under_way(path, folder) for path in sorted(folder.rglob(PART_RECORD))],
        jobs=waiting.read(folder),
        is_finished=(folder / TABLE).is_file(),
        times=timing.times(folder),
    )


def _finished(stage: Path, folder: Path) -> Finished:
    name = str(stage.relative_to(folder))
    record = read_record(stage, name)
    return Finished(name, float(record.get("wall_s", 0.0)), record["values"])


def _under_way(path: Path, folder: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["stage"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return str(path.parent.relative_to(folder))


def _short(value: object) -> str:
    if isinstance(value, dict) and isinstance(value.get("force_mae_meV_per_A"), int | float):
        return f"{value['force_mae_meV_per_A']:.0f} meV/A"
    return str(value) if isinstance(value, int | float | str) else ""
