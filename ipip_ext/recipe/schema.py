"""The base of every recipe section: frozen, strict, helpful about unknown keys."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from ipip_ext.errors import RecipeError, did_you_mean


class Section(BaseModel):
    """Frozen pydantic model that refuses unknown keys, and truth values where numbers are meant."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, raw: Any) -> Any:
        """Refuse true and false for a number, which pydantic would take for 1 and 0."""
        for key, value in raw.items() if isinstance(raw, dict) else ():
            field = cls.model_fields.get(key)
            if field is not None and _takes_no_truth(field.annotation) and _holds_truth(value):  # type: ignore[arg-type]
                raise ValueError(f"{key} must be no truth value such as true or false")
        return raw


def _holds_truth(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(map(_holds_truth, inner))


@cache
def _takes_no_truth(annotation: Any) -> bool:
    """Whether a field of this type holds no truth value at any depth; one that holds a section sees for itself."""
    inner = get_args(annotation)
    if get_origin(annotation) is Literal:
        return True
    if annotation is Any or annotation is bool or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return False
    return all(_takes_no_truth(one) for one in inner if not isinstance(one, FieldInfo))


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
    place = f"{where}: {key}" if key else where
    return RecipeError(f"{place}: {message.replace('Input should', 'must')}{shown}.")


_PLAINER = {
    "model_type": "must be a section of key: value",
    "model_attributes_type": "must be a section of key: value",
    "tuple_type": "must be a list, such as [a, b]",
    "path_type": "must be a path",
    "float_parsing": "must be a valid number",
    "int_parsing": "must be a valid integer",
    "bool_type": "must be true or false",
}
"""pydantic's words where they speak of Python."""

_BRANCHES = frozenset(
    {"str", "bool", "int", "float", "list", "dict", "constrained-int", "constrained-float", "constrained-str"}
)
"""What pydantic calls branches of a union in `loc`, besides names with a bracket."""


def _is_short(value: object) -> bool:
    if isinstance(value, int) and value.bit_length() > 200:  # Python writes none of thousands of digits
        return False
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
            inner = {found for field in fields for found in models_in(field.annotation)}
    return path, holders


def models_in(annotation: Any) -> set[type[BaseModel]]:
    """Return the sections that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    found: set[type[BaseModel]] = set()
    for inner in getattr(annotation, "__args__", ()):
        found |= models_in(inner)
    return found
