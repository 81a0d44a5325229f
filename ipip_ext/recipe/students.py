"""The `student` section of a recipe: the settings of every backend's students, words alone (no torch, no mace here).

A new backend is a model here and a line in `BACKENDS`, besides its line in `backends/registry.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ipip_ext.errors import RecipeError, did_you_mean
from ipip_ext.recipe.schema import Section

_IRREP = re.compile(r"(\d+)x(\d+)([eo])", re.ASCII)
_MOST_CHANNELS, _HIGHEST = 1024, 4
"""Of a term of irreps: channels, and degree."""

_MOST_TERMS = 2 * (_HIGHEST + 1)

_MOST_COUPLED = 9
"""MACE couples `correlation` harmonics of degree `max_ell` at once: 3 by 3 is a second, 3 by 4 minutes and 10 GB."""


class MaceConfig(Section):
    """A small MACE; every field is MACE's own hyperparameter of the same name."""

    backend: Literal["mace"] = "mace"
    """Which code trains the student."""

    hidden_irreps: str = "32x0e+32x1o"
    """Channels and symmetry of the messages. `32x0e` is faster; vectors (`1o`) extrapolate better."""

    max_ell: int = Field(2, ge=0, le=4)
    """Highest degree of the spherical harmonics on edges. More resolves angles better and costs time."""

    correlation: int = Field(2, ge=1, le=4)
    """Body order of a layer minus one. 2 is enough for small data; 3 costs about half as much again."""

    num_interactions: int = Field(2, ge=1, le=4)
    """Message-passing layers. The receptive field is this times `r_max_A`."""

    r_max_A: float = Field(5.0, gt=0, le=20)
    """Cut-off radius, Angstrom. Cost grows with its cube; below 4 most crystals lose their second shell."""

    radial_MLP: tuple[Annotated[int, Field(gt=0, le=1024)], ...] = Field((64, 64, 64), max_length=8)
    """Hidden widths of the radial network. It holds most parameters of a small MACE."""

    MLP_irreps: str = "16x0e"
    """Hidden layer of the last readout."""

    num_bessel: int = Field(8, gt=0, le=128)
    """Radial basis functions."""

    num_polynomial_cutoff: int = Field(5, gt=0, le=128)
    """Exponent of the smooth cut-off; larger keeps more of the outer shell."""

    dtype: Literal["float32", "float64"] = "float32"
    """Floating-point type. float32 is twice as fast; float64 is for phonons and tight optimisation."""

    @field_validator("hidden_irreps")
    @classmethod
    def _equal_channels(cls, value: str) -> str:
        terms = [term for part in value.split("+") if (term := _IRREP.fullmatch(part.strip()))]
        if len(terms) != value.count("+") + 1 or len(terms) > _MOST_TERMS:
            raise ValueError("must read like 32x0e or 32x0e+32x1o")
        if any(_above(term[1], _MOST_CHANNELS) or _above(term[2], _HIGHEST) for term in terms):
            raise ValueError(f"must have at most {_MOST_CHANNELS} channels, and terms up to degree {_HIGHEST}")
        channels = {int(term[1]) for term in terms}
        if len(channels) != 1 or 0 in channels:
            raise ValueError("MACE needs the same number of channels in every term")
        if not any(term[2] + term[3] == "0e" for term in terms):
            raise ValueError("MACE needs scalars: add a term like 32x0e")
        return value

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if self.max_ell * self.correlation > _MOST_COUPLED:
            raise ValueError(
                f"max_ell {self.max_ell} with correlation {self.correlation} takes minutes and ten GB to build, if it"
                f" can be; take max_ell times correlation up to {_MOST_COUPLED}"
            )
        return self

    @field_validator("MLP_irreps")
    @classmethod
    def _scalar_readout(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9][0-9]*x0e", value):
            raise ValueError("must be scalars, like 16x0e")
        if _above(value.removesuffix("x0e"), _MOST_CHANNELS):
            raise ValueError(f"must have at most {_MOST_CHANNELS} channels")
        return value


def _above(digits: str, most: int) -> bool:
    """Return whether a number is larger than `most`; Python itself reads none of thousands of digits."""
    return len(digits) > len(str(most)) or int(digits) > most


BACKENDS: dict[str, type[Section]] = {"mace": MaceConfig}
"""What a recipe may give as `student.backend` -> the model of its `student` section."""


def config_class(name: str) -> type[Section]:
    """Return the model of the `student` section for backend `name`. Raises RecipeError for an unknown name."""
    if name not in BACKENDS:
        raise RecipeError(f"student.backend: {name} is unknown.{did_you_mean(name, BACKENDS)}")
    return BACKENDS[name]


def names() -> list[str]:
    """Return the names a recipe may give as `student.backend`."""
    return sorted(BACKENDS)
