"""`ipip-mace status`: where a run stands."""

from __future__ import annotations

from pathlib import Path

import click

import ipip_ext
from ipip_ext.cli.echo import echo
from ipip_ext.cli.options import FILE


@click.command()
@click.argument("folder", type=FILE)
def status(folder: Path) -> None:
    """Tell where the run in FOLDER stands."""
    echo(ipip_ext.open_run(folder).status())
