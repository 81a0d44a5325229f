"""What a user gave for a recipe, from a file or as keyword arguments, made plain before it is checked key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ipip_ext.errors import RecipeError
from ipip_ext.recipe import students
from ipip_ext.recipe.paths import absolute
from ipip_ext.recipe.schema import Section, explain

_LONGEST = 1000
"""Characters of a value; no path, name or number needs more."""


@dataclass(frozen=True)
class Origin:
    """Where a recipe comes from. where: how errors name it. root: the folder from which its paths start."""

    where: str
    root: Path


def prepared(raw: dict[str, Any], origin: Origin) -> dict[str, Any]:
    """Return the keys of a recipe with absolute paths and a student that is checked.

    raw: as YAML gives it. Raises RecipeError.
    """
    _check_values(raw, origin.where)
    raw = absolute(raw, origin.root)
    student = raw.get("student", {})
    if not isinstance(student, dict):
        raise RecipeError(f"{origin.where}: student: must be a section with keys such as hidden_irreps.")
    try:
        config = students.config_class(str(student.get("backend", "mace")))
    except RecipeError as error:
        raise RecipeError(f"{origin.where}: {error}") from None
    try:
        raw["student"] = config.model_validate(student)
    except ValidationError as error:
        raise explain(error, config, f"{origin.where}: student") from None
    return raw


def of_keywords(words: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """Return what Python gave as YAML would give it: sections as mappings, paths as text, tuples as lists."""
    try:
        return {key: _plain(value) for key, value in words.items()}
    except RecursionError:
        raise RecipeError(f"{origin.where}: is nested too deeply; write out what stands in itself.") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _check_values(raw: dict[str, Any], where: str) -> None:
    """Raise RecipeError for what no key takes and some would choke on; aliases are followed once."""
    seen: set[int] = set()
    ahead: list[tuple[str, Any, frozenset[int]]] = [("", raw, frozenset())]
    while ahead:
        key, value, above = ahead.pop()
        if id(value) in above:
            raise RecipeError(f"{where}: {key}: is an alias of what it stands in; write it out.")
        if isinstance(value, str) and ("\0" in value or len(value) > _LONGEST):
            raise RecipeError(f"{where}: {key}: holds a NUL or more than {_LONGEST} characters; shorten it.")
        if isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            ahead += [(f"{key}.{name}".lstrip("."), one, above | {id(value)}) for name, one in inner]
