"""Recipe sections of training: fit, pretrain, finetune, forget."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ipip_ext.schema import Section

Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Fit(Section):
    """One training."""

    epochs: PositiveInt = 100
    """Most passes over the training frames."""

    batch_size: PositiveInt = 10
    """Frames in a step."""

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

    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = 0.99
    """Decay of the moving average of the weights, which is what is validated and kept; null switches it off."""

    patience: PositiveInt | None = None
    """Validations without improvement before training stops; null: run all epochs."""

    validate_every: PositiveInt = 1
    """Epochs between validations."""


class Pretrain(Fit):
    """Training on the pseudo-labelled pool, forces first."""

    epochs: PositiveInt = 25
    """Most passes over the pool."""
    energy_weight: NonNegativeFloat = 0.0
    """0 by default: teacher and task keep energies on different zeros, forces have none."""
    source_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Weight of a pool frame by who labelled it, such as {teacher: 0.5}; 1 for the others
    (teacher, self, committee)."""
    valid_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the pool held out to choose the epoch."""


class Finetune(Fit):
    """Training on the task's reference labels."""

    lr: PositiveFloat = 0.003
    """Peak learning rate, lower than in pretraining so that what was learnt there is refined and not replaced."""
    replay_fraction: Share = 0.5
    """Share of each batch drawn from the pool (forces only), so that fine-tuning on few labels
    keeps what pretraining taught."""
    replay_weight: NonNegativeFloat = 0.3
    """Weight of a replayed frame beside a labelled one."""


class Forget(Section):
    """Which blocks of the student are re-initialised between iterations: p <- keep*p + noise*fresh."""

    groups: tuple[str, ...] = ("readouts", "interactions")
    """Parameter groups: readouts, interactions, interactions.last, products, embedding, all; [] for none."""

    keep: Fraction = 0.0
    """0 is a hard reset; between 0 and 1 shrink-and-perturb (Ash & Adams, arXiv:1910.08475)."""

    noise: NonNegativeFloat = 1.0
    """Share of freshly initialised weights that is added."""
