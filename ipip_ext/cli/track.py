"""`ipip-mace track`: a run to MLflow, later."""

from __future__ import annotations

from pathlib import Path

import click

import ipip_ext
from ipip_ext.cli.options import FILE


@click.command()
@click.argument("folder", type=FILE)
def track(folder: Path) -> None:
    """Mirror the run or the ablation in FOLDER to MLflow, as far as it is not there yet."""
    click.echo(ipip_ext.track(folder))
