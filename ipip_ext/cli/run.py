"""`ipip-mace run`: the whole method, or what is left of it."""

from __future__ import annotations

from pathlib import Path

import click

import ipip_ext
from ipip_ext.cli.echo import echo
from ipip_ext.cli.options import FILE, with_recipe
from ipip_ext.run.console import Console


@click.command()
@with_recipe
@click.option("--workdir", type=FILE, default=None, help="Put the run here instead of runs/<name>.")
@click.option("--redo", metavar="STAGE", default=None, help="Start over from this stage.")
def run(recipe: ipip_ext.Recipe, workdir: Path | None, redo: str | None, *, trust_models: bool) -> None:
    """Run RECIPE, or go on where it stands."""
    done = ipip_ext.run(recipe, workdir, redo=redo, progress=Console(), trust_models=trust_models)
    echo(f"\n{done.text}")
    echo(f"model: {done.model}")
    if done.where_to_compare is not None:
        echo(f"compare: {done.where_to_compare}")
