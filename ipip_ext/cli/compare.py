"""`ipip-mace compare`: finished runs in one table."""

from __future__ import annotations

from pathlib import Path

import click

import ipip_ext
from ipip_ext.cli.echo import echo
from ipip_ext.cli.options import FILE


@click.command()
@click.argument("folders", type=FILE, nargs=-1, required=True)
@click.option("--html", type=FILE, default=None, metavar="FILE", help="Write a report over all of them too.")
def compare(folders: tuple[Path, ...], html: Path | None) -> None:
    """Print one table over several runs or grids of runs; of a single run its own, whole.

    It says whether the runs have the same test frames. Runs that differ in nothing but the seed are also averaged;
    runs that differ in the number of reference labels make a learning curve.
    """
    found = ipip_ext.compare(*folders)
    echo(found if len(found.runs) > 1 else f"{folders[0]}\n{found}")
    if html is not None:
        found.write_html(html)
        echo(f"report: {html}")
