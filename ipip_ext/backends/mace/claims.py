"""Whether a student's spec goes with its weights, told by their shapes before a network of that size is built.

A model folder may be a stranger's: what its student.json claims is believed only as far as its weights bear it out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from ipip_ext.backends.mace._mace import o3
from ipip_ext.backends.mace.model import Spec
from ipip_ext.recipe.students import MaceConfig

_LAYER = re.compile(r"interactions\.(\d+)\.")
_COUPLING = re.compile(r"products\.0\.symmetric_contractions\.contractions\.0\.U_matrix_(\d+)")
_MOST = 64
"""Of heads, and of anything else of which a foreign make may have several."""


def fits(spec: Spec, weights: Mapping[str, torch.Tensor]) -> bool:
    """Return whether `weights` are those of a network as large as `spec` says: species, channels, layers, couplings."""
    config, n_species = spec.config, len(spec.atomic_numbers)
    channels = o3.Irreps(config.hidden_irreps).count(o3.Irrep(0, 1))
    layers = {int(found[1]) for key in weights if (found := _LAYER.match(key))}
    couplings = {int(found[1]): weights[key].shape for key in weights if (found := _COUPLING.fullmatch(key))}
    return (
        _numel(weights, "atomic_numbers") == n_species
        and _numel(weights, "node_embedding.linear.weight") == n_species * channels
        and layers == set(range(config.num_interactions))
        and set(couplings) == set(range(1, config.correlation + 1))
        and all(len(shape) > 1 and shape[-2] == (config.max_ell + 1) ** 2 for shape in couplings.values())
        and (spec.shape is None or _is_modest(spec.shape, config))
    )


def _numel(weights: Mapping[str, torch.Tensor], key: str) -> int:
    return weights[key].numel() if key in weights else 0


def _is_modest(shape: Mapping[str, Any], config: MaceConfig) -> bool:
    """Return whether a foreign make claims no more than the config beside it, which has limits, and no long lists."""
    told = config.model_dump(mode="json")
    edges = shape.get("edge_irreps")
    return (
        all(shape[key] == told[key] for key in told.keys() & shape.keys())
        and (edges is None or o3.Irreps(edges).dim <= 25 * max(o3.Irreps(config.hidden_irreps).dim, 1))
        and all(len(value) <= _MOST for value in shape.values() if isinstance(value, list | dict))
    )
