"""The base of every recipe section: frozen, strict, helpful about unknown keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ipip_ext.errors import RecipeError, did_you_mean


class Section(BaseModel):
    """Frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def explain(error: ValidationError, model: type[BaseModel], where: str) -> RecipeError:
    """Turn pydantic's first error into one line: file, key, what, remedy."""
    first = error.errors()[0]
    path = [part for part in first["loc"] if not _is_tag(part)]
    key = ".".join(str(part) for part in path)
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), _known_keys(model, path[:-1]))
        return RecipeError(f"{where}: {key} is unknown.{hint}")
    if first["type"] == "missing":
        return RecipeError(f"{where}: {key} is missing; add it.")
    shown = f", not {first['input']!r}" if _is_short(first["input"]) else ""
    message = str(first["msg"]).removeprefix("Value error, ")
    return RecipeError(f"{where}: {key or 'recipe'}: {message}{shown}.")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def _is_tag(part: int | str) -> bool:
    # pydantic names the branch of a union in `loc`: a class or a function, no key of ours
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in _TAGS)


_TAGS = frozenset({"str", "bool", "int", "float", "list", "dict", "constrained-str"})


def _is_short(value: object) -> bool:
    return isinstance(value, str | int | float | bool) and len(repr(value)) < 60


def _known_keys(model: type[BaseModel], path: list[int | str]) -> set[str]:
    """Return the keys of the section at `path` inside `model`; of all sections if unsure."""
    here: set[type[BaseModel]] = {model}
    for part in path:
        if isinstance(part, int):
            continue
        here = {
            inner
            for section in here
            if part in section.model_fields
            for inner in _models_in(section.model_fields[part].annotation)
        }
    return {name for section in (here or {model}) for name in section.model_fields}


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    found: set[type[BaseModel]] = set()
    for inner in getattr(annotation, "__args__", ()):
        found |= _models_in(inner)
    return found
