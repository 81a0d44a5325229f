"""Names of the files in a run folder that more than one room looks for, and by which a run folder is known."""

from __future__ import annotations

from pathlib import Path

from ipip_ext.errors import WorkspaceError

RECIPE = "recipe.yaml"
"""The recipe as it ran, every key written out."""

EVENTS = "events.jsonl"
"""All that was said, one event a line; what MLflow mirrors."""

FINDINGS = "findings.json"
"""What looked odd about the data before the run began, a sentence each."""

LOG = "log.txt"
"""The same for readers."""

TABLE = "compare.csv"
"""The comparison, one row a model and split."""

TEXT = "compare.txt"
"""The same as text, with what else was measured."""

PAGE = "report.html"
"""The comparison as a page."""

PUBLISHED = (
    TABLE, TEXT, "compare.tex", PAGE, "breakdown.csv", "speed.csv", "time.csv",
    "parity.png", "iterations.png", "calibration.png",
)  # fmt: skip
"""What stands at the top of a finished run's folder: copies of what its report stage has made."""

MODEL = "model"
"""Folder of the student that a user takes along."""


def is_run(folder: Path) -> bool:
    """Return whether a run has begun in `folder`: told by what only runs write, since anyone may write a recipe."""
    return (folder / EVENTS).is_file() or (folder / "prepare").is_dir()


def require_run(folder: Path) -> None:
    """Raise WorkspaceError unless `folder` is a run's, finished or not."""
    if not (folder / RECIPE).is_file():
        raise WorkspaceError(f"{folder}: is no run folder (it holds no {RECIPE}); runs are made by `ipip-mace run`.")
