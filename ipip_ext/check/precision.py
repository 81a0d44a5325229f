"""What the student's dtype does to energies where they are computed by others."""

from __future__ import annotations

import numpy as np

from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import Dataset
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.units import MEV_PER_EV

_COARSE_EV = 5e-4
"""Step of an energy from which on minimisers stall and numerical forces miss analytic ones."""


def told(recipe: Recipe, data: Dataset) -> list[str]:
    """Return a warning if energies of these frames have coarse steps in the exported model; nothing if they don't."""
    if getattr(recipe.student, "dtype", "float64") != "float32":
        return []
    largest = max(abs(float(frame.info.get(fr.ENERGY, 0.0))) for frame in (*data.train, *data.valid, *data.test))
    step = float(np.spacing(np.float32(largest)))
    if step < _COARSE_EV:
        return []
    return [
        f"warning   totals of {largest:.6g} eV have steps of {step * MEV_PER_EV:.3g} meV in float32. ipip-mace adds"
        " energy zeros in double precision, other programs that open model/student.model don't: for these set"
        " student.dtype: float64, or take an energy for each element off the labels"
    ]
