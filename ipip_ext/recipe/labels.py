"""Recipe sections of labelling: correct, select, committee, reference, label."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, model_validator

from ipip_ext.recipe.numbers import Count, Factor, ForceLimit_eV_per_A, Fraction
from ipip_ext.recipe.schema import Section


class Select(Section):
    """Which sampled frames are worth a label."""

    min_distance_factor: Annotated[float, Field(gt=0, le=10)] = 0.6
    """Drop frames with atoms closer than this times the sum of covalent radii."""

    max_force_eV_per_A: ForceLimit_eV_per_A = 40.0
    """Drop frames in which the student's force on an atom is larger."""

    max_gap_A: Annotated[float, Field(gt=0, le=30)] | None = 6.0
    """Drop frames from which an atom or a fragment has evaporated: nothing of it is within this distance of the
    rest. 6 is beyond usual cut-offs, where the two teach the student nothing about each other. Frames in no more
    pieces than a start or training frame of the same formula stay. Periodic images count: in a vacuum 9 Angstrom
    wide nothing is farther than 4.5 from a surface. null: keep all."""

    max_coordination_factor: Annotated[float, Field(ge=1, le=1e6)] | None = 1.5
    """Drop frames in which an atom has more bonds than this times the most that its element has in any start or
    training frame, and at least three more. A bond is shorter than 1.25 times the sum of covalent radii.
    null: keep all."""

    density_factor: Annotated[float, Field(ge=1, le=1e6)] | None = 1.5
    """Drop frames blown up or collapsed: the mean number density within 5 Angstrom of the atoms, whatever the
    vacuum around them, is more than this times beyond the range of starts and training frames of the same
    formula, either way. null: keep all."""

    duplicate_tolerance: Annotated[float, Field(ge=0, le=1000)] = 0.01
    """Drop a frame closer than this to one kept, relative to the spread of the frames' descriptors."""

    max_frames: Count = 1000
    """Most frames to keep, chosen for diversity (farthest points in the student's descriptors)."""


class Correction(Section):
    """Correction of what the teacher labels, fitted on the training frames, and anew where `label.reference` has added
    some. Its MD stays uncorrected, and so does the teacher that the student is compared with.
    """

    form: Literal["none", "scale", "composition", "element", "pair", "angular", "auto"] = "auto"
    """Universal potentials are too soft, by a factor that depends on chemistry. `scale`: one factor for all labels;
    `composition`: a factor that is linear in the atomic fractions; `element`: a factor for the forces on each
    element, which are then those of no energy (energies stay); `pair`: `scale` and a pair potential for each pair of
    elements; `angular`: `pair` and a three-body potential that is blind to the elements, so that it holds for
    compositions not trained on; `auto`: the one with the smallest cross-validated force error, where a richer form
    must win by more than 1 %, and none where `adapt` has fine-tuned the teacher."""

    group_keys: tuple[str, ...] = ()
    """`info` keys that make the groups which cross-validation leaves out, one at a time. []: compositions, which
    shows whether a form holds for chemistry it was not fitted to, as the pool needs it. Frames of one trajectory on
    both sides, as with [start, temperature_K], would favour forms that only interpolate."""

    r_max_A: Annotated[float, Field(ge=2, le=12)] = 4.0
    """Cut-off of the pair and three-body potentials, Angstrom."""

    n_basis: Annotated[int, Field(gt=0, le=64)] = 12
    """Radial functions of each pair potential; the three-body potential has half as many."""

    max_ell: Annotated[int, Field(ge=0, le=12)] = 10
    """Highest Legendre degree of the three-body potential."""

    ridge: Factor | None = None
    """Pull towards no correction, about as strong as that many force components which need none.
    null: of 1, 3, 10, 30 and 100 the strongest whose cross-validated error is within 2 % of the smallest."""

    damping: Factor | None = 10.0
    """Fade the correction out on frames unlike the training frames: half of it is left where its statistical leverage
    is this many times the training frames'. null: correct all frames fully, however far they are."""


class Committee(Section):
    """Students that differ by seed and by the labels they saw; their spread says how sure they are."""

    size: Annotated[int, Field(ge=2, le=16)] = 3
    """Members. The first is the iteration's student; each other one costs a fine-tuning."""

    bootstrap: StrictBool = True
    """Each other member is fine-tuned on a resample of the training frames, which makes them disagree
    where labels are few."""

    export: StrictBool = False
    """Export the committee with the model, for `load_calculator(run, committee=True)`."""


class Asking(Section):
    """Which frames the reference method is asked for."""

    budget: Count = 10
    """Frames labelled in each iteration but the last."""

    among: Literal["new", "pool", "both"] = "both"
    """Frames to choose from: `new` ones of the student's MD, those of the `pool`, whose pseudo-labels give way, or
    `both`."""

    choice: Literal["power", "diverse"] = "power"
    """`power`: drawn at random with chances in proportion to the committee's spread (arXiv:2106.12059), which spreads
    labels over all that will be met. `diverse`: the most diverse (farthest points) of the `candidates_per_label` times
    `budget` frames the committee is least sure of, which leans to outliers: with few labels they taught less
    (docs/results.md)."""

    candidates_per_label: Annotated[int, Field(gt=0, le=10_000)] = 5
    """Candidates for each label of `choice: diverse`."""

    max_teacher_force_eV_per_A: ForceLimit_eV_per_A | None = 20.0
    """Don't ask for a frame on which the teacher's force on an atom is larger: a student that lacks repulsion walks
    to such frames, and a label of the teacher mends that for nothing. null: ask for any."""


class Reference(Asking):
    """Reference labels for the frames that teach most."""

    calculator: str | dict[str, Any]
    """Calculator entry of the reference method (as `teacher`): the method that made the training labels. With
    `executor: vasp` in it, its labels are made on that executor of the place file (`compute.parsl`)."""

    frames_per_job: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Frames that one job labels, where stages are computed by `processes` or `parsl`: so many jobs go side by side as
    there is room, and one that dies costs its own labels. null: one job labels all."""

    @property
    def asking(self) -> Asking:
        """Which frames to ask for, without whom."""
        return Asking.model_validate(self.model_dump(exclude={"calculator", "frames_per_job"}))


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

    relabel: StrictBool = False
    """true: what is kept of the old pool is labelled anew too, by the same policy, since students outgrow the labels
    that taught them. `teacher` would say the same again, unless `reference` lets `correct` or `adapt` mend that."""

    @model_validator(mode="after")
    def _someone_who_learned(self) -> Label:
        if self.relabel and self.policy == "teacher" and self.reference is None:
            raise ValueError(
                "relabel is for the policies self, committee and cross, or where reference labels mend the teacher's:"
                " as it is, the teacher would say the same again"
            )
        return self
