"""`ipip-mace init`: a recipe to begin with."""

from __future__ import annotations

from pathlib import Path

import click

import ipip_ext
from ipip_ext.cli.options import FILE


@click.command()
@click.argument("path", type=FILE, default=Path("recipe.yaml"))
def init(path: Path) -> None:
    """Write a commented recipe to PATH."""
    ipip_ext.write_starter(path)
    click.echo(f"wrote {path}; set the data, teacher and explore sections, then: ipip-mace check {path}")
