"""`ipip-mace verify`: does a finished run hold what it claims."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import ipip_ext
from ipip_ext.cli.echo import echo
from ipip_ext.cli.options import FILE


@click.command()
@click.argument("folder", type=FILE)
def verify(folder: Path) -> None:
    """Check that the files of the finished run in FOLDER are whole and that its table is what they give.

    Exit code 0 if all claims hold, 1 if one does not.
    """
    claims = ipip_ext.open_run(folder).verify()
    for claim in claims:
        echo(claim)
    wrong = sum(not claim.holds for claim in claims)
    echo(f"{wrong} of {len(claims)} claims do not hold" if wrong else f"all {len(claims)} claims hold")
    sys.exit(1 if wrong else 0)
