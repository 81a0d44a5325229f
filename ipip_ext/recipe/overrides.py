"""`--set key=value`: what is changed in a recipe as it was read, before it is checked.

A key reaches into a list by the index of an entry, or by its name where entries have one: `baselines.1.fit.epochs`,
`baselines.scratch.fit.epochs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ipip_ext.errors import RecipeError, did_you_mean
from ipip_ext.recipe import yaml_core
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.schema import models_in


def override(raw: dict[str, Any], text: str) -> None:
    """Set in `raw` what `text`, `key=value`, says; the value is read as YAML. Raises RecipeError."""
    key, sign, value = text.partition("=")
    where = f"--set {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}"
    if not sign or not key:
        raise RecipeError(f"{where}: must read key=value, such as finetune.lr=0.002.")
    try:
        read = yaml_core.read(value)
    except yaml_core.NotYaml as error:
        raise RecipeError(f"{where}: {value[:_LONGEST]!r} is not a YAML value ({error.problem}).") from None
    put(raw, key, read, where)


_LONGEST = 200


def put(raw: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key. Lists and sections on the way that are not given begin at their defaults.

    where: begins each message. Raises RecipeError for a way through a value that is neither list nor section, and for
    an entry that a list has not.
    """
    *before, last = key.split(".")
    here: Any = raw
    defaults = _Defaults()
    for name in before:
        at = _place(here, name, where)
        inner = here[at] if isinstance(here, list) else here.get(at)
        if inner is None:
            inner = here[at] = defaults.of(name)
        if not isinstance(inner, dict | list):
            raise RecipeError(f"{where}: {name} is not a section, so it holds no key; set {name} whole.")
        here, defaults = inner, defaults.below(name)
    here[_place(here, last, where)] = value


def look_up(values: Any, key: str) -> Any:
    """Return what stands at a dotted key, as `put` finds it; None where nothing does."""
    for name in key.split("."):
        if isinstance(values, Mapping):
            values = values.get(name)
        else:
            at = _index(values, name) if isinstance(values, list) else None
            values = None if at is None else values[at]
    return values


def _place(here: Any, name: str, where: str) -> Any:
    """Return the key of a section, or the index in a list, that `name` means."""
    if not isinstance(here, list):
        return name
    at = _index(here, name)
    if at is None:
        known = [*map(str, range(len(here))), *filter(None, _names(here))]
        hint = did_you_mean(name, known) if known else " It is empty."
        raise RecipeError(f"{where}: the list has no entry {name}.{hint}")
    return at


def _index(entries: list[Any], name: str) -> int | None:
    if name.isdecimal() and len(name) <= 6:
        return int(name) if int(name) < len(entries) else None
    names = list(_names(entries))
    return names.index(name) if name and name in names else None


def _names(entries: list[Any]) -> Iterator[str]:
    """Yield the name of each entry, as baselines have one: its own, or that of its kind."""
    for entry in entries:
        yield str(entry.get("name", entry.get("kind", ""))) if isinstance(entry, Mapping) else ""


class _Defaults:
    """What keys of a section are where a recipe is silent. sections: models that it may be read by."""

    def __init__(self, sections: frozenset[type[BaseModel]] = frozenset({Recipe})) -> None:
        self._sections = sections

    def of(self, name: str) -> dict[str, Any] | list[Any]:
        """Return a list as it is by default, or an empty section, whose keys have their defaults anyway."""
        for section in self._sections:
            field = section.model_fields.get(name)
            default = PydanticUndefined if field is None else field.get_default(call_default_factory=True)
            if isinstance(default, tuple):
                return [entry.model_dump(mode="json") if isinstance(entry, BaseModel) else entry for entry in default]
        return {}

    def below(self, name: str) -> _Defaults:
        """Return the defaults within a section."""
        fields = [section.model_fields[name] for section in self._sections if name in section.model_fields]
        return _Defaults(frozenset().union(*(models_in(field.annotation) for field in fields)))
