"""The `student` section of a recipe: the settings of every backend's students, words alone (no torch, no mace here).

A new backend is a model here and a line in `BACKENDS`, besides its line in `backends/registry.py`.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from ipip_ext.errors import RecipeError, did_you_mean
from ipip_ext.recipe.schema import Section

_IRREP = re.compile(r"(\d+)x(\d+)([eo])")


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

    r_max_A: PositiveFloat = 5.0
    """Cut-off radius, Angstrom. Cost grows with its cube; below 4 most crystals lose their second shell."""

    radial_MLP: tuple[PositiveInt, ...] = (64, 64, 64)
    """Hidden widths of the radial network. It holds most parameters of a small MACE."""

    MLP_irreps: str = "16x0e"
    """Hidden layer of the last readout."""

    num_bessel: PositiveInt = 8
    """Radial basis functions."""

    num_polynomial_cutoff: PositiveInt = 5
    """Exponent of the smooth cut-off; larger keeps more of the outer shell."""

    dtype: Literal["float32", "float64"] = "float32"
    """Floating-point type. float32 is twice as fast; float64 is for phonons and tight optimisation."""

    @field_validator("hidden_irreps")
    @classmethod
    def _equal_channels(cls, value: str) -> str:
        terms = [_IRREP.fullmatch(term.strip()) for term in value.split("+")]
        if not all(terms):
            raise ValueError("must read like 32x0e or 32x0e+32x1o")
        channels = {term[1] for term in terms if term}
        if len(channels) != 1 or "0" in channels:
            raise ValueError("MACE needs the same number of channels in every term")
        if not any(term and term[2] + term[3] == "0e" for term in terms):
            raise ValueError("MACE needs scalars: add a term like 32x0e")
        return value

    @field_validator("MLP_irreps")
    @classmethod
    def _scalar_readout(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9]\d*x0e", value):
            raise ValueError("must be scalars, like 16x0e")
        return value


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
