"""The command line: `ipip-mace`."""

from __future__ import annotations

import errno
import logging
import shlex
import sys
from typing import Any

import click

from ipip_ext import __version__
from ipip_ext.cli.ablate import ablate
from ipip_ext.cli.check import check
from ipip_ext.cli.compare import compare
from ipip_ext.cli.echo import echo
from ipip_ext.cli.evaluate import evaluate
from ipip_ext.cli.init import init
from ipip_ext.cli.md import md
from ipip_ext.cli.run import run
from ipip_ext.cli.schema import schema
from ipip_ext.cli.status import status
from ipip_ext.cli.track import track
from ipip_ext.cli.ui import ui
from ipip_ext.cli.verify import verify
from ipip_ext.errors import IpipError, UserError
from ipip_ext.run import signals

_OF_THE_PLACE = (errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.EPERM)
"""What may be wrong with a path before anyone has looked into the file."""


class Commands(click.Group):
    """Commands whose expected errors are one line and an exit code, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; 2 for what the user can mend, 1 for a computation that failed."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            echo(f"error: {_one_line(error)}", err=True)
            ctx.exit(2)
        except IpipError as error:
            echo(f"failed: {_one_line(error)}", err=True)
            ctx.exit(1)
        except OSError as error:
            if error.filename is None or error.errno not in _OF_THE_PLACE:
                raise
            echo(f"error: {error.filename}: {error.strerror}; name another file.", err=True)
            ctx.exit(2)
        except signals.Stopped as stop:
            echo(f"stopped by {stop}; all that is finished is kept. To go on: {_again(stop)}", err=True)
            ctx.exit(stop.exit_code)
        except KeyboardInterrupt:
            echo("interrupted; the same command goes on from here", err=True)
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ipip-mace")
def main() -> None:
    """Make a small, fast MACE for your system from a foundation model and a few labels."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    told = logging.getLogger("ipip_ext.api")
    told.handlers, told.propagate = [_Told()], False


for command in (ablate, check, compare, evaluate, init, md, run, schema, status, track, ui, verify):
    main.add_command(command)


class _Told(logging.Handler):
    """What the API has to tell stands on stderr as it is."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        echo(record.getMessage(), err=True)


def _again(stop: signals.Stopped) -> str:
    """Return the command that goes on; --redo would start over once the run folder knows of it."""
    words = ["ipip-mace", *sys.argv[1:]]
    if not stop.has_begun:
        return shlex.join(words)
    if "--redo" in words:
        del words[words.index("--redo") : words.index("--redo") + 2]
    return shlex.join(word for word in words if not word.startswith("--redo="))


def _one_line(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines())  # calculators may have said many


if __name__ == "__main__":
    main()
