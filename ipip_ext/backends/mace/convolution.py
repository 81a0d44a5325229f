"""MACE's convolution as a few dense products: the same weights and numbers, up to rounding, in less time.

e3nn multiplies one path after the other, in slices of tensors as large as edges times channels, and the gradient of
every slice is such a tensor full of zeros. Training and MD of a small MACE on a CPU are bound by that traffic. Here all
paths that begin at one irrep are one batched matrix product. MACE calls it through its own hook for fused convolutions.
On a GPU it is fewer and larger kernels (docs/benchmarks.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ipip_ext.backends.mace._mace import o3


def install(module: torch.nn.Module) -> None:
    """Let the interactions of a MACE `module` convolve as here, where they are of the kind that can.

    No weight changes. Until `remove` the module is for use in this process, on its present device and in its dtype.
    """
    parameter = next(module.parameters())
    for interaction in module.interactions:  # type: ignore[union-attr]
        product = interaction.conv_tp
        if not hasattr(interaction, "conv_fusion") and _is_plain(product):
            product.forward = _Convolution(product, parameter)  # as a submodule it would change the names of weights
            interaction.conv_fusion = True


def remove(module: torch.nn.Module) -> None:
    """Undo `install`."""
    for interaction in module.interactions:  # type: ignore[union-attr]
        if isinstance(vars(interaction.conv_tp).get("forward"), _Convolution):
            del interaction.conv_tp.forward, interaction.conv_fusion


def _is_plain(product: Any) -> bool:
    """Tell whether it is e3nn's, of equally many channels with one set of harmonics, each output from one path."""
    if type(product) is not o3.TensorProduct or len({mul for mul, _ in product.irreps_in1}) != 1:
        return False
    paths = product.instructions
    return (
        all(mul == 1 for mul, _ in product.irreps_in2)
        and all(path.connection_mode == "uvu" and path.has_weight for path in paths)
        and [path.i_out for path in paths] == list(range(len(product.irreps_out)))
    )


@dataclass(frozen=True)
class _Start:
    """The paths that begin at one irrep of the features.

    paths: which of all paths. coupling: (harmonics, components * paths * dims), Clebsch-Gordan coefficients with the
    paths' normalisation. n_components: of the irrep. dims: components of each path's output.
    """

    paths: list[int]
    coupling: torch.Tensor
    n_components: int
    dims: list[int]


class _Convolution:
    """Sums over edges of features times harmonics times weights, in the layout of e3nn's product."""

    def __init__(self, product: Any, like: torch.Tensor) -> None:
        self.n_channels = product.irreps_in1[0].mul
        self.n_paths = len(product.instructions)
        self.starts = [_start(product, i, like) for i in range(len(product.irreps_in1))]
        self.sizes = [self.n_channels * start.n_components for start in self.starts]

    def __call__(
        self, features: torch.Tensor, harmonics: torch.Tensor, weights: torch.Tensor, edges: torch.Tensor
    ) -> torch.Tensor:
        n_atoms, n_edges, n = len(features), len(harmonics), self.n_channels
        radial = torch.split(weights, n, dim=1)
        outputs: dict[int, torch.Tensor] = {}
        for start, own in zip(self.starts, torch.split(features, self.sizes, dim=1), strict=True):
            sent = own.view(n_atoms, n, -1).transpose(1, 2).reshape(n_atoms, -1).index_select(0, edges[0])
            weight = torch.cat([radial[path] for path in start.paths], dim=1)
            n_rows = start.n_components * len(start.paths)
            signal = sent.view(n_edges, start.n_components, 1, n) * weight.view(n_edges, 1, len(start.paths), n)
            coupling = (harmonics @ start.coupling).view(n_edges, n_rows, sum(start.dims))
            messages = torch.bmm(coupling.transpose(1, 2), signal.view(n_edges, n_rows, n)).flatten(1)
            sums = messages.new_zeros(n_atoms, messages.shape[1])
            sums = sums.scatter_add(0, edges[1][:, None].expand_as(messages), messages)
            outputs |= zip(start.paths, torch.split(sums.view(n_atoms, -1, n), start.dims, dim=1), strict=True)
        return torch.cat([outputs[path].transpose(1, 2).flatten(1) for path in range(self.n_paths)], dim=1)


def _start(product: Any, i_in: int, like: torch.Tensor) -> _Start:
    degree = product.irreps_in1[i_in].ir.l
    mine = [path for path in product.instructions if path.i_in1 == i_in]
    dims = [product.irreps_out[path.i_out].dim // product.irreps_in1[i_in].mul for path in mine]
    ends = np.cumsum(dims)
    coupling = torch.zeros(product.irreps_in2.dim, 2 * degree + 1, len(mine), ends[-1], dtype=torch.float64)
    for p, (path, dim, end) in enumerate(zip(mine, dims, ends, strict=True)):
        degrees = degree, product.irreps_in2[path.i_in2].ir.l, product.irreps_out[path.i_out].ir.l
        three = o3.wigner_3j(*degrees, dtype=torch.float64) * path.path_weight
        coupling[product.irreps_in2.slices()[path.i_in2], :, p, end - dim : end] = three.transpose(0, 1)
    paths = [path.i_out for path in mine]
    return _Start(paths, coupling.flatten(1).to(like), 2 * degree + 1, dims)
