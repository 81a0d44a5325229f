"""`ipip-mace schema`: what may stand in a recipe."""

from __future__ import annotations

import click

import ipip_ext


@click.command()
@click.option("--markdown", is_flag=True, help="The reference page instead of the JSON schema.")
def schema(*, markdown: bool) -> None:
    """Print the JSON schema of recipes."""
    click.echo(ipip_ext.recipe_reference() if markdown else ipip_ext.recipe_schema(), nl=not markdown)
