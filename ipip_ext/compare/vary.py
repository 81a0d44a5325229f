"""What `--vary` says: keys of a recipe and the values that each is to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ipip_ext.errors import RecipeError
from ipip_ext.recipe.recipe import Recipe

_NOT_DECISIVE = "variants would share their results, which are not known by it; set it for all with --set."
_FIXED = {
    "name": "all variants stand in the folder of one name; set it with --set.",
    "seed": "all variants run with the same seeds; say how many with --seeds.",
    "device": _NOT_DECISIVE, "threads": _NOT_DECISIVE, "parallel": _NOT_DECISIVE, "tracking": _NOT_DECISIVE,
}  # fmt: skip


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
        try:
            read = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            raise RecipeError(f"--vary {text}: {values!r} are not YAML values; separate them by commas.") from None
        holds_list = isinstance(_look_up(recipe.model_dump(mode="json"), key), list)
        found[key] = [_as_list(value) if holds_list else value for value in read]
    if not found:
        raise RecipeError("ablate: nothing is varied; say --vary key=a,b,c, such as finetune.lr=0.003,0.01.")
    return found


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [] if value == "none" else value.split("+")
    return value if isinstance(value, list | None) else [value]


def _look_up(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values
