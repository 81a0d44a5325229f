"""What a MACE asks of a structure beyond its atoms: total charge and spin, for models that embed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from ase import Atoms

from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.charge import charge_of, spin_of

_GIVEN: Mapping[str, Callable[[Atoms], float]] = {"total_charge": charge_of, "total_spin": spin_of}

Specs = Mapping[str, Mapping[str, Any]]
"""MACE's own: an input's name -> how it is embedded."""


def specs_of(module: torch.nn.Module, name: str) -> Specs:
    """Return which inputs `module` embeds. Raises CalculatorError, with `name`, for one that is not ours to give."""
    specs: Specs = getattr(module, "embedding_specs", None) or {}
    strange = [key for key, spec in specs.items() if key not in _GIVEN or spec.get("per") != "graph"]
    if strange:
        raise CalculatorError(needs(name, *strange))
    return specs


def needs(name: str, *inputs: str) -> str:
    """Return the words for a model that asks for more than we give."""
    return (
        f"mace: {name} needs {', '.join(inputs)} as input, which ipip-mace does not give; take another model, or MACE's"
        " own calculator as {python: ...}."
    )


def values(atoms: Atoms, specs: Specs) -> dict[str, float]:
    """Return the inputs that `specs` ask for. Raises ValueError for one that the model can't embed."""
    found = {key: _GIVEN[key](atoms) for key in specs}
    for key, value in found.items():
        spec = specs[key]
        if spec["type"] != "categorical":
            continue
        lowest = -int(spec.get("offset", 0))
        highest = lowest + int(spec["num_classes"]) - 1
        if not lowest <= value <= highest or value != int(value):
            raise ValueError(f"{key} is {value:g}, and the model knows whole numbers from {lowest} to {highest}")
    return found
