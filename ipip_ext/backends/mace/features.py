"""Which of MACE's node features turn with the frame, and which do not."""

from __future__ import annotations

import torch


def invariant_columns(module: torch.nn.Module) -> list[int]:
    """Return the columns of `node_feats` that are invariant: layer after layer, scalars first in each."""
    columns: list[int] = []
    start = 0
    for product in module.products:  # type: ignore[union-attr]
        irreps = product.linear.irreps_out
        columns.extend(range(start, start + sum(mul for mul, irrep in irreps if irrep.l == 0)))
        start += irreps.dim
    return columns
