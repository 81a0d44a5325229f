"""`ipip-mace check`: is all in order, what will be done, what will it cost."""

from __future__ import annotations

import click

import ipip_ext
from ipip_ext.cli.echo import echo
from ipip_ext.cli.options import with_recipe
from ipip_ext.run.console import Console


@click.command()
@with_recipe
def check(recipe: ipip_ext.Recipe, *, trust_models: bool) -> None:
    """Validate RECIPE and its data without running, and print the plan and a rough cost."""
    echo(ipip_ext.check(recipe, progress=Console(), trust_models=trust_models))
