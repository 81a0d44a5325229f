"""The conformance suite once more, on a student of scalars alone."""

from __future__ import annotations

from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.backends.testing import BackendConformance
from ipip_ext.recipe.students import MaceConfig


class TestMaceBackendScalar(BackendConformance):
    backend = MaceBackend()
    config = MaceConfig(
        hidden_irreps="4x0e", max_ell=2, correlation=3, r_max_A=4.0, radial_MLP=(8,), MLP_irreps="4x0e",
        num_bessel=4, dtype="float64",
    )  # fmt: skip
