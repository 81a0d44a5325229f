"""What the command line prints: words of strangers' files are seen and not obeyed."""

from __future__ import annotations

import click

from ipip_ext.run.printable import printable


def echo(text: object, *, err: bool = False) -> None:
    """Print `text` on stdout, or stderr, with its control characters written out."""
    click.echo(printable(text), err=err)
