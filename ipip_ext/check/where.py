"""Where in the recipe an error is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ipip_ext.errors import UserError
from ipip_ext.recipe.baselines import Baseline
from ipip_ext.recipe.recipe import Recipe


@contextlib.contextmanager
def at(where: str) -> Iterator[None]:
    """Say where in the recipe an error is."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{where}: {error}") from error


def in_recipe(recipe: Recipe) -> list[tuple[str, Baseline]]:
    """Return the baselines, each with its place as messages give it."""
    return [(f"{recipe.file}: baselines.{i}", baseline) for i, baseline in enumerate(recipe.baselines)]
