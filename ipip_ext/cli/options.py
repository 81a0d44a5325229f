"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)
TRUST = click.option(
    "--trust-models", is_flag=True, help="Let another user's recipe or file load pickled models and run Python code."
)


def with_recipe(command: Callable[..., Any]) -> Callable[..., Any]:
    """Read RECIPE with what --set changes; `command` is given it, and trust_models."""

    @click.argument("recipe", type=FILE)
    @click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a recipe key.")
    @TRUST
    @functools.wraps(command)
    def wrapped(recipe: Path, overrides: tuple[str, ...], **options: Any) -> Any:
        import ipip_ext

        return command(ipip_ext.load_recipe(recipe, *overrides), **options)

    return wrapped
