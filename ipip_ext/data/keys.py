"""Names of what a frame carries, inside: whatever a user's file calls it, here it has one spelling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ENERGY, FORCES, STRESS = "REF_energy", "REF_forces", "REF_stress"
ID, SOURCE = "frame_id", "label_source"
WEIGHT = "label_weight"
"""info key: weight of a frame in a loss; 1 where it is absent."""

OF_FRAME, OF_VIRIALS = "config_weight", "config_virials_weight"
LABEL_WEIGHTS = {"energy": "config_energy_weight", "forces": "config_forces_weight", "stress": "config_stress_weight"}
"""info keys of a user's file, MACE's own: what a frame counts for, and its labels besides; 1 where one is absent."""

WEIGHTS = (OF_FRAME, *LABEL_WEIGHTS.values())

BEFORE_STOP = "before_stop"
"""info key of a frame from right before its walk was stopped: why that was."""

OWN = (ID, WEIGHT, BEFORE_STOP, "MD_energy", "MD_forces", "MD_stress", "MD_kinetic_temperature_K")
"""What only we write, besides `label_source`, which is ours from the first. In a user's file it is theirs, and decides
nothing."""


def theirs(key: str) -> str:
    """Return under which name a user's entry with a name of ours is kept."""
    return f"file_{key}"


def set_aside(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return a user's `info` with what has a name of ours under another: `frame_id` becomes `file_frame_id`."""
    return {(theirs(key) if key in OWN else key): value for key, value in info.items()}


@dataclass(frozen=True)
class LabelKeys:
    """Names of the labels in a user's file; None means: not wanted. Stress may be given as virials instead.

    hint: how a user says which name it is. charge, spin: of what a frame is besides; None: under their usual names.
    """

    energy: str = ENERGY
    forces: str = FORCES
    stress: str | None = None
    virials: str | None = None
    hint: str = "data.{}_key"
    charge: str | None = None
    spin: str | None = None
