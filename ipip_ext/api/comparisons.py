"""Finished runs side by side."""

from __future__ import annotations

from pathlib import Path

from ipip_ext.api.runs import Run
from ipip_ext.compare import finished
from ipip_ext.compare.runs import Comparison
from ipip_ext.errors import WorkspaceError


def compare(*runs: Run | str | Path) -> Comparison:
    """Return finished runs side by side: `table()`, `means()` over seeds, `differences()`, `write_html(path)`.

    runs: runs or their folders, or folders of grids, which stand for all of their runs.
    Raises WorkspaceError for a folder that holds no finished run or a broken one.
    """
    if not runs:
        raise WorkspaceError("compare: no run is named; give one or more run folders.")
    return Comparison(finished.read([run.folder if isinstance(run, Run) else Path(run) for run in runs]))
