"""What a stage under way will leave: values that wait when they are looked at.

`Later` stands for a value until it is there. It can be handed on, into bundles and into other stages, and nobody waits;
whoever looks at it (takes it as a path, a number or a word, asks for an item of it) waits for what makes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol


class Source(Protocol):
    """Something at work that values come from."""

    @property
    def is_over(self) -> bool:
        """Whether all that it makes is there."""

    def wait(self) -> Any:
        """Return what it makes once that is there. Raises what went wrong with it."""


class Later:
    """The value that `make` returns once its `sources` are over."""

    __slots__ = ("_make", "_sources")

    def __init__(self, make: Callable[[], Any], sources: Sequence[Source]) -> None:
        self._make, self._sources = make, sources

    def __getattr__(self, name: str) -> Any:
        return getattr(look(self), name)

    def __getitem__(self, key: Any) -> Any:
        return look(self)[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(look(self))

    def __len__(self) -> int:
        return len(look(self))

    def __contains__(self, item: object) -> bool:
        return item in look(self)

    def __bool__(self) -> bool:
        return bool(look(self))

    def __eq__(self, other: object) -> bool:
        return bool(look(self) == look(other))

    def __hash__(self) -> int:
        return hash(look(self))

    def __or__(self, other: Any) -> Any:
        return look(self) | look(other)

    def __float__(self) -> float:
        return float(look(self))

    def __index__(self) -> int:
        return int(look(self).__index__())

    def __fspath__(self) -> str:
        return str(look(self).__fspath__())

    def __str__(self) -> str:
        return str(look(self))

    def __format__(self, how: str) -> str:
        return format(look(self), how)


def look(value: Any) -> Any:
    """Return `value`, or what it stands for: then wait until that is there."""
    while isinstance(value, Later):
        for source in object.__getattribute__(value, "_sources"):
            source.wait()
        value = object.__getattribute__(value, "_make")()
    return value


def sources_of(value: Any) -> Iterator[Source]:
    """Yield what the values in `value` come from: in sequences, mappings and dataclasses, however deep."""
    if isinstance(value, Later):
        yield from object.__getattribute__(value, "_sources")
    elif isinstance(value, IsLate):
        yield value.source
    else:
        for item in _parts(value):
            yield from sources_of(item)


def settle(value: Any) -> Any:
    """Return `value` with what is there in the place of all that stands for it; itself if nothing does."""
    if isinstance(value, Later):
        return settle(look(value))
    if isinstance(value, IsLate):
        return value.source.wait()
    if next(sources_of(value), None) is None:
        return value
    if isinstance(value, Mapping):
        return {look(key): settle(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(settle, value)) if not hasattr(value, "_fields") else type(value)(*map(settle, value))
    fields = {field.name: settle(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return dataclasses.replace(value, **fields)


class IsLate:
    """Base of what stands for a stage that is under way."""

    source: Source


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield getattr(value, field.name)
