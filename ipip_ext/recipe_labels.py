"""Recipe sections of labelling: select, committee, reference, label."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ipip_ext.schema import Section

Fraction = Annotated[float, Field(ge=0, le=1)]


class Select(Section):
    """Which sampled frames are worth a label."""

    min_distance_factor: PositiveFloat = 0.6
    """Drop frames with atoms closer than this times the sum of covalent radii."""

    max_force_eV_per_A: PositiveFloat = 40.0
    """Drop frames in which the student's force on an atom is larger."""

    duplicate_tolerance: NonNegativeFloat = 0.01
    """Drop a frame closer than this to one kept, relative to the spread of the frames' descriptors."""

    max_frames: PositiveInt = 1000
    """Most frames to keep, chosen for diversity (farthest points in the student's descriptors)."""


class Committee(Section):
    """Students that differ by seed and by the labels they saw; their spread says how sure they are."""

    size: Annotated[int, Field(ge=2, le=16)] = 3
    """Members. The first is the iteration's student; each other one costs a fine-tuning."""

    bootstrap: bool = True
    """Each other member is fine-tuned on a resample of the training frames, which makes them disagree
    where labels are few."""

    export: bool = False
    """Export the committee with the model, for `load_calculator(run, committee=True)`."""


class Reference(Section):
    """Reference labels for the frames that teach most."""

    calculator: str | dict[str, Any]
    """Calculator entry of the reference method (as `teacher`): the method that made the training labels."""

    budget: PositiveInt = 10
    """Frames labelled in each iteration but the last."""

    candidates_per_label: PositiveInt = 5
    """The most diverse frames are chosen among this many times `budget` of those the committee is least sure of."""


class Label(Section):
    """Who labels the selected frames."""

    policy: Literal["teacher", "self", "committee", "cross"] = "teacher"
    """`teacher`: the foundation model, for frames far from the reference data; `self`: the student just
    fine-tuned, better than the teacher close to them; `committee`: the mean of several students;
    `cross`: the committee where its calibrated error is below the teacher's error on the validation frames,
    the teacher elsewhere."""

    reference: Reference | None = None
    """Besides, ask the reference method for a few frames, which join the training set."""

    retain: Fraction = 0.5
    """Share of the old pool kept beside the new frames."""
