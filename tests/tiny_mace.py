"""A student as small as they get."""

from __future__ import annotations

from ipip_ext.recipe.students import MaceConfig

TINY = MaceConfig(
    hidden_irreps="4x0e+4x1o", max_ell=1, correlation=2, r_max_A=4.0, radial_MLP=(8,), MLP_irreps="4x0e",
    num_bessel=4, dtype="float64",
)  # fmt: skip
