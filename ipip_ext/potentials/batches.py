"""Cutting what is too much for the memory into parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def cut(items: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Yield `items` in their order, together as far as their sizes add up to `most`; a larger one comes alone."""
    part: list[T] = []
    total = 0
    for item in items:
        own = size(item)
        if part and total + own > most:
            yield part
            part, total = [], 0
        part.append(item)
        total += own
    if part:
        yield part
