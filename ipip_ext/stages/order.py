"""Every stage, and from which one on a change of the recipe matters."""

from __future__ import annotations

STAGES = (
    "prepare", "explore", "adapt", "correct", "pretrain", "finetune", "evaluate", "sample", "select", "committee",
    "ask", "label", "forget", "model", "scratch", "tune_foundation", "tune_natively", "stability", "properties",
    "trajectory_properties", "calibration", "home", "speed", "report",
)  # fmt: skip
"""In the order in which a run first meets them."""

FIRST_STAGE = {
    "name": "prepare", "seed": "prepare", "data": "prepare", "teacher": "explore", "adapt": "adapt",
    "explore": "explore", "correct": "correct", "student": "pretrain", "pretrain": "pretrain", "finetune": "finetune",
    "sample": "sample", "select": "select", "label": "label", "forget": "forget",
}  # fmt: skip
"""The stage from which a change of a section matters; sections not named here may change freely,
because the stages they touch compare their own parameters."""

DIVIDES = ("data.ood", "data.test")
"""Keys that nothing but the comparison depends on: `prepare` and the evaluations yield to them, trainings stay."""

NO_MODEL_OF = frozenset({"baselines", "evaluate", "tracking", "threads", "parallel", "compute"})
"""Sections on which no student depends, nor which of them is chosen."""


def divides(key: str) -> bool:
    """Whether nothing but the comparison depends on a key of the recipe."""
    return any(f"{key}.".startswith(f"{one}.") for one in DIVIDES)
