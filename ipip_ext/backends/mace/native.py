"""A MACE of another make, such as a foundation model, as a Student: an architecture in JSON beside the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ipip_ext.backends.mace._mace import extract_config, modules, o3
from ipip_ext.errors import CalculatorError

_CLASSES = ("interaction_cls", "interaction_cls_first", "readout_cls")
_IRREPS = ("hidden_irreps", "MLP_irreps", "edge_irreps")
_MEASURED = ("atomic_energies", "atomic_numbers", "avg_num_neighbors", "num_elements")
"""Arguments that a Spec has fields for."""
_NO_JSON = ("cueq_config", "oeq_config", "embedding_specs")
"""Objects; a model that needs one can't be taken."""
_GATES = {"silu": torch.nn.functional.silu, "tanh": torch.tanh, "abs": torch.abs}


def architecture(module: torch.nn.Module, name: str) -> dict[str, Any]:
    """Return the arguments that make another module of this shape, as JSON; those of a Spec's fields are left out.

    They are found as MACE finds them when it converts a model. Raises CalculatorError for a kind of MACE
    that has more to it.
    """
    if type(module) is not modules.ScaleShiftMACE:
        raise CalculatorError(f"mace: {name} is a {type(module).__name__}; only ScaleShiftMACE can be fine-tuned.")
    found = {key: value for key, value in extract_config(module).items() if key not in _MEASURED}
    if unfit := [key for key in _NO_JSON if found.pop(key, None) is not None]:
        raise CalculatorError(f"mace: {name} was built with {unfit[0]}; fine-tuning takes models in e3nn's layout.")
    gate = next((key for key, function in _GATES.items() if function is found["gate"]), None)
    if found["gate"] is not None and gate is None:
        raise CalculatorError(f"mace: {name} has a gate other than {', '.join(_GATES)}; it can't be fine-tuned.")
    found |= {key: found[key].__name__ for key in _CLASSES}
    found |= {key: None if found[key] is None else str(found[key]) for key in _IRREPS}
    return {key: _plain(value) for key, value in found.items()} | {"gate": gate}


def construct(
    shape: Mapping[str, Any], *, atomic_numbers: Sequence[int], e0s_eV: Sequence[float], avg_num_neighbors: float
) -> torch.nn.Module:
    """Return a module of `architecture`'s arguments with fresh weights."""
    named = {key: getattr(modules, shape[key]) for key in _CLASSES}
    irreps = {key: None if shape[key] is None else o3.Irreps(shape[key]) for key in _IRREPS}
    arrays = {key: np.array(shape[key]) for key in ("atomic_inter_scale", "atomic_inter_shift")}
    module: torch.nn.Module = modules.ScaleShiftMACE(
        **{**shape, **named, **irreps, **arrays, "gate": _GATES.get(shape["gate"])},
        atomic_energies=np.atleast_2d(e0s_eV),
        atomic_numbers=list(atomic_numbers),
        avg_num_neighbors=avg_num_neighbors,
        num_elements=len(atomic_numbers),
    )
    return module


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
