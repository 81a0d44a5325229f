"""Names of what a frame carries, inside: whatever a user's file calls it, here it has one spelling."""

from __future__ import annotations

from dataclasses import dataclass

ENERGY, FORCES, STRESS = "REF_energy", "REF_forces", "REF_stress"
ID, SOURCE = "frame_id", "label_source"
WEIGHT = "label_weight"
"""info key: weight of a frame in a loss; 1 where it is absent."""


@dataclass(frozen=True)
class LabelKeys:
    """Names of the labels in a user's file; None means: not wanted. Stress may be given as virials instead.

    hint: how a user says which name it is.
    """

    energy: str = ENERGY
    forces: str = FORCES
    stress: str | None = None
    virials: str | None = None
    hint: str = "data.{}_key"
