"""Recipe sections of training: fit, adapt, pretrain, finetune."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ipip_ext.recipe.numbers import Count, Factor, Fraction, OpenShare, Rate, Share, Steps, Weight
from ipip_ext.recipe.schema import Section

Groups = tuple[str, ...]


class Fit(Section):
    """One training."""

    epochs: Count = 100
    """Most passes over the training frames."""

    min_steps: Steps = 0
    """Fewest optimiser steps: with few frames, epochs are added until there are as many. An epoch of twenty frames
    is four steps; this keeps a training, and a learning curve, from ending before it has begun."""

    batch_size: Count = 5
    """Frames in a step. Small batches go further in as much time (docs/results.md)."""

    lr: Rate = 0.01
    """Peak learning rate (AdamW with amsgrad)."""

    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    """`cosine` falls to `lr_final_fraction` at the last epoch; `plateau` halves when validation stalls."""

    lr_final_fraction: Fraction = 0.02
    """Where the schedule ends, as a share of `lr`."""

    warmup_steps: Steps = 20
    """Steps over which the learning rate rises from zero."""

    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """AdamW's decay."""

    lr_factors: dict[str, Weight] = Field(default_factory=dict)
    """Factor on `lr` by parameter group, such as {embedding: 0.1, interactions: 0.3}; 1 for the others, 0 freezes.
    Groups are those of `forget.groups`. Where they overlap the most specific counts:
    interactions.last before interactions before all. The decay scales along, as always with AdamW."""

    freeze: Groups = ()
    """Parameter groups that keep their weights bitwise, such as [embedding]; [all] with the factors
    {readouts: 1} trains the readouts alone. Energy zeros are no weights: finetune refits them all the same."""

    force_weight: Weight = 10.0
    """Weight of the force loss, of the mean over components."""

    energy_weight: Weight = 1.0
    """Weight of the loss of the energy per atom."""

    stress_weight: Weight = 0.0
    """Weight of the stress loss; only where labels have stress."""

    huber_delta_force_eV_per_A: Factor = 0.05
    """Where the force loss turns from square to absolute."""

    huber_delta_energy_eV_per_atom: Factor = 0.01
    """Where the energy loss turns from square to absolute."""

    max_grad_norm: Factor = 10.0
    """Gradient clipping."""

    ema_decay: OpenShare | None = 0.995
    """Decay of the moving average of the weights, which is what is validated and kept; null switches it off."""

    patience: Count | None = None
    """Validations without improvement before training stops; null: run all epochs."""

    validate_every: Count = 1
    """Epochs between validations."""

    @model_validator(mode="after")
    def _frozen_has_no_factor(self) -> Self:
        if both := [group for group in self.freeze if group in self.lr_factors]:
            raise ValueError(f"{both[0]} stands in freeze and in lr_factors; take it out of one of them")
        return self

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if self.force_weight == self.energy_weight == self.stress_weight == 0:
            raise ValueError(
                "force_weight, energy_weight and stress_weight are all 0, so nothing would be learnt; give one a weight"
            )
        return self

    def most_epochs(self, steps_per_epoch: int) -> int:
        """Return `epochs`, or as many as `min_steps` takes."""
        return max(self.epochs, -(-self.min_steps // max(1, steps_per_epoch)))


class Adapt(Fit):
    """Fine-tuning of the teacher on the training frames, before it labels the pool.

    CHGNet's groups, for `freeze` and `lr_factors`, are readouts, interactions, embedding and all.
    """

    epochs: Count = 30
    """Most passes over the training frames."""
    lr: Rate = 0.003
    """Peak learning rate (AdamW with amsgrad)."""
    ema_decay: OpenShare | None = 0.99
    """Decay of the moving average of the weights, which is what is validated and kept; null switches it off."""
    energy_weight: Weight = 0.0
    """0 by default: it is its forces that teach. Its energies are then those of no zeros; the table shifts them to the
    task's, as it does for the teacher that comes."""


class Pretrain(Fit):
    """Training on the pseudo-labelled pool, forces first."""

    epochs: Count = 25
    """Most passes over the pool."""
    lr: Rate = 0.02
    """Peak learning rate (AdamW with amsgrad); with large batches or models 0.01 is the safer one."""
    ema_decay: OpenShare | None = 0.99
    """Decay of the moving average of the weights, which is what is validated and kept; null switches it off."""
    energy_weight: Weight = 0.0
    """0 by default: teacher and task keep energies on different zeros, forces have none."""
    source_weights: dict[str, Weight] = Field(default_factory=dict)
    """Weight of a pool frame by who labelled it, such as {teacher: 0.5}; 1 for the others
    (teacher, self, committee)."""
    valid_fraction: OpenShare = 0.05
    """Share of the pool held out to choose the epoch."""

    @model_validator(mode="after")
    def _teachers_labels_count(self) -> Self:
        if self.source_weights.get("teacher") == 0:
            raise ValueError(
                "source_weights.teacher is 0, but the first pool is all the teacher's: nothing would be learnt from it"
            )
        return self


class Finetune(Fit):
    """Training on the task's reference labels."""

    lr: Rate = 0.006
    """Peak learning rate, lower than in pretraining so that what was learnt there is refined and not replaced."""
    replay_fraction: Share = 0.4
    """Share of each batch drawn from the pool (forces only), so that fine-tuning on few labels
    keeps what pretraining taught."""
    replay_weight: Weight = 0.3
    """Weight of a replayed frame beside a labelled one."""
