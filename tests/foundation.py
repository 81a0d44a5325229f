"""A MACE that stands in for a foundation model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ipip_ext.backends.mace._mace import default_dtype, modules, o3


def write_foundation(path: Path) -> Path:
    """Write a MACE that no student is: density blocks, ZBL, Agnesi's transform, a shift, a species more, float64."""
    with default_dtype(torch.float64):
        torch.manual_seed(4)
        module = modules.ScaleShiftMACE(
            r_max=4.5, num_bessel=5, num_polynomial_cutoff=6, max_ell=2, num_interactions=2, num_elements=3,
            interaction_cls=modules.RealAgnosticDensityResidualInteractionBlock,
            interaction_cls_first=modules.RealAgnosticDensityInteractionBlock,
            hidden_irreps=o3.Irreps("4x0e+4x1o"), MLP_irreps=o3.Irreps("4x0e"), gate=torch.nn.functional.silu,
            atomic_energies=np.array([-3.0, -5.0, -4.0]), atomic_numbers=[13, 28, 29], avg_num_neighbors=17.0,
            correlation=3, radial_MLP=[8, 8], pair_repulsion=True, distance_transform="Agnesi",
            atomic_inter_scale=0.8, atomic_inter_shift=0.1, use_reduced_cg=False,
        )  # fmt: skip
    torch.save(module, path)
    return path
