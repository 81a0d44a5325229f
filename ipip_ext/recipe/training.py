"""Recipe sections of training: fit, pretrain, finetune, forget."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from ipip_ext.recipe.schema import Section

Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Groups = tuple[str, ...]
_T = TypeVar("_T")


def _number_or_list(value: object) -> str:
    return "list" if isinstance(value, list | tuple) else "float"


def _flat_or_nested(value: object) -> str:
    nested = isinstance(value, list | tuple) and any(isinstance(inner, list | tuple) for inner in value)
    return "list" if nested else "str"


def _not_empty(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values:
        raise ValueError("must be a number or hold some, such as [0, 0.5]")
    return values


# a discriminator, so that an error is about the branch that was meant; its tags are names that schema.explain omits
_Schedule = Annotated[tuple[_T, ...], AfterValidator(_not_empty), Tag("list")]
_Fractions = Annotated[Annotated[Fraction, Tag("float")] | _Schedule[Fraction], Discriminator(_number_or_list)]
_NonNegatives = Annotated[
    Annotated[NonNegativeFloat, Tag("float")] | _Schedule[NonNegativeFloat], Discriminator(_number_or_list)
]
_GroupsOrSchedule = Annotated[
    Annotated[Groups, Tag("str")] | Annotated[tuple[Groups, ...], Tag("list")], Discriminator(_flat_or_nested)
]


class Fit(Section):
    """One training."""

    epochs: PositiveInt = 100
    """Most passes over the training frames."""

    min_steps: NonNegativeInt = 0
    """Fewest optimiser steps: with few frames, epochs are added until there are as many. An epoch of twenty frames
    is four steps; this keeps a training, and a learning curve, from ending before it has begun."""

    batch_size: PositiveInt = 5
    """Frames in a step. Small batches go further in as much time (docs/results.md)."""

    lr: PositiveFloat = 0.01
    """Peak learning rate (AdamW with amsgrad)."""

    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    """`cosine` falls to `lr_final_fraction` at the last epoch; `plateau` halves when validation stalls."""

    lr_final_fraction: Fraction = 0.02
    """Where the schedule ends, as a share of `lr`."""

    warmup_steps: NonNegativeInt = 20
    """Steps over which the learning rate rises from zero."""

    weight_decay: NonNegativeFloat = 0.0
    """AdamW's decay."""

    lr_factors: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Factor on `lr` by parameter group, such as {embedding: 0.1, interactions: 0.3}; 1 for the others, 0 freezes.
    Groups are those of `forget.groups`. Where they overlap the most specific counts:
    interactions.last before interactions before all. The decay scales along, as always with AdamW."""

    freeze: Groups = ()
    """Parameter groups that keep their weights bitwise, such as [embedding]; [all] with the factors
    {readouts: 1} trains the readouts alone. Energy zeros are no weights: finetune refits them all the same."""

    force_weight: NonNegativeFloat = 10.0
    """Weight of the force loss, of the mean over components."""

    energy_weight: NonNegativeFloat = 1.0
    """Weight of the loss of the energy per atom."""

    stress_weight: NonNegativeFloat = 0.0
    """Weight of the stress loss; only where labels have stress."""

    huber_delta_force_eV_per_A: PositiveFloat = 0.05
    """Where the force loss turns from square to absolute."""

    huber_delta_energy_eV_per_atom: PositiveFloat = 0.01
    """Where the energy loss turns from square to absolute."""

    max_grad_norm: PositiveFloat = 10.0
    """Gradient clipping."""

    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = 0.995
    """Decay of the moving average of the weights, which is what is validated and kept; null switches it off."""

    patience: PositiveInt | None = None
    """Validations without improvement before training stops; null: run all epochs."""

    validate_every: PositiveInt = 1
    """Epochs between validations."""

    @model_validator(mode="after")
    def _frozen_has_no_factor(self) -> Self:
        if both := [group for group in self.freeze if group in self.lr_factors]:
            raise ValueError(f"{both[0]} stands in freeze and in lr_factors; take it out of one of them")
        return self

    def most_epochs(self, steps_per_epoch: int) -> int:
        """Return `epochs`, or as many as `min_steps` takes."""
        return max(self.epochs, -(-self.min_steps // max(1, steps_per_epoch)))


class Adapt(Fit):
    """Fine-tuning of the teacher on the training frames, before it labels the pool.

    CHGNet's groups, for `freeze` and `lr_factors`, are readouts, interactions, embedding and all.
    """

    epochs: PositiveInt = 30
    """Most passes over the training frames."""
    lr: PositiveFloat = 0.003
    """Peak learning rate (AdamW with amsgrad)."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = 0.99
    """Decay of the moving average of the weights, which is what is validated and kept; null switches it off."""
    energy_weight: NonNegativeFloat = 0.0
    """0 by default: it is its forces that teach. Its energies are then those of no zeros; the table shifts them to the
    task's, as it does for the teacher that comes."""


class Pretrain(Fit):
    """Training on the pseudo-labelled pool, forces first."""

    epochs: PositiveInt = 25
    """Most passes over the pool."""
    lr: PositiveFloat = 0.02
    """Peak learning rate (AdamW with amsgrad); with large batches or models 0.01 is the safer one."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = 0.99
    """Decay of the moving average of the weights, which is what is validated and kept; null switches it off."""
    energy_weight: NonNegativeFloat = 0.0
    """0 by default: teacher and task keep energies on different zeros, forces have none."""
    source_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Weight of a pool frame by who labelled it, such as {teacher: 0.5}; 1 for the others
    (teacher, self, committee)."""
    valid_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the pool held out to choose the epoch."""


class Finetune(Fit):
    """Training on the task's reference labels."""

    lr: PositiveFloat = 0.006
    """Peak learning rate, lower than in pretraining so that what was learnt there is refined and not replaced."""
    replay_fraction: Share = 0.4
    """Share of each batch drawn from the pool (forces only), so that fine-tuning on few labels
    keeps what pretraining taught."""
    replay_weight: NonNegativeFloat = 0.3
    """Weight of a replayed frame beside a labelled one."""


class Forgetting(Section):
    """What is forgotten at one time; no groups: nothing, weights stay bitwise what they are."""

    groups: Groups
    keep: float
    noise: float


class Forget(Section):
    """Which blocks of the student are re-initialised between iterations: p <- keep*p + noise*fresh."""

    groups: _GroupsOrSchedule = ("readouts",)
    """Parameter groups: readouts, interactions, interactions.last, products, embedding, all; [] for none.
    A list of such lists is a schedule, such as [[all], [readouts], []]: entry i is for after iteration i, counted
    from 0, and the last repeats. Optimiser state, EMA and learning-rate schedule start afresh with every training,
    whatever is forgotten; so [] is the control in which these alone are forgotten. Adding interactions needs a
    pretraining as long as the first to be learnt again, and gained no more than the spread in one (docs/results.md)."""

    keep: _Fractions = 0.0
    """0 is a hard reset; between 0 and 1 shrink-and-perturb (Ash & Adams, arXiv:1910.08475).
    A list is a schedule, such as [0, 0.5, 0.8], as for `groups`."""

    noise: _NonNegatives = 1.0
    """Share of freshly initialised weights that is added. A list is a schedule, as for `groups`."""

    every: PositiveInt = 1
    """Forget after each n-th iteration only; 2: after iterations 1, 3, 5. Schedules then have one entry for each
    of these."""

    until: NonNegativeInt | None = None
    """Last iteration, counted from 0, after which something may be forgotten; null: no such limit."""

    @property
    def schedule(self) -> tuple[Groups, ...]:
        """The groups of each forgetting; one entry where all forget the same."""
        nested = tuple(entry for entry in self.groups if isinstance(entry, tuple))
        return nested or (tuple(entry for entry in self.groups if isinstance(entry, str)),)

    def at(self, iteration: int) -> Forgetting:
        """Return what is forgotten after `iteration`, counted from 0."""
        count, rest = divmod(iteration + 1, self.every)
        if rest or (self.until is not None and iteration > self.until):
            return Forgetting(groups=(), keep=1.0, noise=0.0)
        return Forgetting(
            groups=_entry(self.schedule, count - 1),
            keep=_entry(_as_tuple(self.keep), count - 1),
            noise=_entry(_as_tuple(self.noise), count - 1),
        )


def _as_tuple(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _entry(values: tuple[_T, ...], index: int) -> _T:
    """Return the value at `index`; the last repeats."""
    return values[min(index, len(values) - 1)]
