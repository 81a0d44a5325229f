"""The base of every recipe section: frozen, strict, helpful about unknown keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ipip_ext.errors import RecipeError, did_you_mean


class Section(BaseModel):
    """Frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def explain(error: ValidationError, model: type[BaseModel], where: str) -> RecipeError:
    """Turn pydantic's first error into one line: file, key, what, remedy."""
    first = error.errors()[0]
    path, holders = _locate(model, first["loc"])
    key = ".".join(str(part) for part in path)
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), {name for section in holders for name in section.model_fields})
        return RecipeError(f"{where}: {key} is unknown.{hint}")
    if first["type"] == "missing":
        return RecipeError(f"{where}: {key} is missing; add it.")
    shown = f", not {first['input']!r}" if _is_short(first["input"]) else ""
    message = _PLAINER.get(first["type"]) or str(first["msg"]).removeprefix("Value error, ")
    return RecipeError(f"{where}: {key or 'recipe'}: {message.replace('Input should', 'must')}{shown}.")


_PLAINER = {
    "model_type": "must be a section of key: value",
    "model_attributes_type": "must be a section of key: value",
    "tuple_type": "must be a list, such as [a, b]",
    "path_type": "must be a path",
    "float_parsing": "must be a valid number",
    "int_parsing": "must be a valid integer",
    "bool_parsing": "must be true or false",
}
"""pydantic's words where they speak of Python."""

_BRANCHES = frozenset({"str", "bool", "int", "float", "list", "dict", "constrained-int", "constrained-str"})
"""What pydantic calls branches of a union in `loc`, besides names with a bracket."""


def _is_short(value: object) -> bool:
    return isinstance(value, str | int | float | bool | list | None) and len(repr(value)) < 60


def _locate(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[int | str], set[type[BaseModel]]]:
    """Return the keys of `loc`, without the branches of unions, and the sections that may hold the last one."""
    path: list[int | str] = []
    holders = inner = {model}
    for part in loc:
        if not inner and isinstance(part, str) and ("[" in part or part in _BRANCHES):
            continue
        of_kind = {s for s in inner if "kind" in s.model_fields and s.model_fields["kind"].default == part}
        if of_kind and path and isinstance(path[-1], int):
            inner = of_kind
            continue
        path.append(part)
        if isinstance(part, str):
            holders = inner or holders
            fields = [section.model_fields[part] for section in inner if part in section.model_fields]
            inner = {found for field in fields for found in _models_in(field.annotation)}
    return path, holders


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    found: set[type[BaseModel]] = set()
    for inner in getattr(annotation, "__args__", ()):
        found |= _models_in(inner)
    return found
