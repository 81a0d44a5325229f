"""What `--vary` says: keys of a recipe and the values that each is to take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ipip_ext.errors import RecipeError
from ipip_ext.recipe import yaml_core
from ipip_ext.recipe.overrides import look_up
from ipip_ext.recipe.recipe import Recipe

_NOT_DECISIVE = "variants would share their results, which are not known by it; set it for all with --set."
_FIXED = {
    "name": "all variants stand in the folder of one name; set it with --set.",
    "seed": "all variants run with the same seeds; say how many with --seeds.",
    "device": _NOT_DECISIVE, "threads": _NOT_DECISIVE, "parallel": _NOT_DECISIVE, "tracking": _NOT_DECISIVE,
    "compute": _NOT_DECISIVE,
}  # fmt: skip
_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+")


def parse_vary(texts: Sequence[str], recipe: Recipe) -> dict[str, list[Any]]:
    """Return the values of each key. For keys that hold a list, `none` is the empty one and `a+b` is [a, b].

    Raises RecipeError for what can't be read and for keys that can't be varied.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        if not key or not values.strip():
            raise RecipeError(f"--vary {text}: must read key=a,b,c, such as finetune.lr=0.003,0.01.")
        if why := _FIXED.get(key.split(".")[0]):
            raise RecipeError(f"--vary {text}: can't be varied: {why}")
        if key in found:
            raise RecipeError(f"--vary {text}: {key} is varied twice; give all its values at once.")
        holds_list = isinstance(look_up(recipe.model_dump(mode="json"), key), list)
        found[key] = [_as_list(value) if holds_list else value for value in _values(text, values)]
    if not found:
        raise RecipeError("ablate: nothing is varied; say --vary key=a,b,c, such as finetune.lr=0.003,0.01.")
    return found


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [] if value == "none" else value.split("+")
    return value if isinstance(value, list | None) else [value]


def _values(text: str, values: str) -> list[Any]:
    """Read values as they are written: 1e-3 stays a word here, since it gives its variant's folder its name."""
    try:
        read = yaml_core.read(f"[{values}]", as_before=True)
    except yaml_core.NotYaml as error:
        raise RecipeError(
            f"--vary {text}: {values!r} are not YAML values ({error.problem}); separate them by commas."
        ) from None
    if not isinstance(read, list):
        raise RecipeError(f"--vary {text}: {values!r} are not YAML values; separate them by commas.")
    return read


def as_number(value: Any) -> Any:
    """Return a value as a recipe has it: a number where it is written as one with an exponent."""
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    return [as_number(one) for one in value] if isinstance(value, list) else value
