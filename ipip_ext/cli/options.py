"""Options that several commands share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)
TRUST = click.option(
    "--trust-models", is_flag=True, help="Let another user's recipe or file load pickled models and run Python code."
)


PLACE = click.option(
    "--place", metavar="PLACE", default=None, help="Compute at another place: here, processes, or a place file."
)


def at_place(overrides: tuple[str, ...], place: str | None) -> tuple[str, ...]:
    """Return what --set changes with what --place does."""
    if place is None:
        return overrides
    if place in ("here", "processes"):
        return (*overrides, f"compute.place={place}")
    file = json.dumps(str(Path(place).absolute()))  # as YAML reads it, from the folder one is in
    return (*overrides, "compute.place=parsl", f"compute.parsl={file}")


def with_recipe(command: Callable[..., Any]) -> Callable[..., Any]:
    """Read RECIPE with what --set and --place change; `command` is given it, and trust_models."""

    @click.argument("recipe", type=FILE)
    @click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a recipe key.")
    @PLACE
    @TRUST
    @functools.wraps(command)
    def wrapped(recipe: Path, overrides: tuple[str, ...], place: str | None, **options: Any) -> Any:
        import ipip_ext

        return command(ipip_ext.load_recipe(recipe, *at_place(overrides, place)), **options)

    return wrapped
