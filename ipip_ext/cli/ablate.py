"""`ipip-mace ablate`: variants of a recipe over seeds."""

from __future__ import annotations

from pathlib import Path

import click

import ipip_ext
from ipip_ext.cli.echo import echo
from ipip_ext.cli.options import FILE, PLACE, TRUST, at_place


@click.command()
@click.argument("recipe", type=FILE)
@click.option("--vary", multiple=True, metavar="KEY=A,B,C", help="Values of a recipe key; give it again for a grid.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each variant.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a recipe key in all variants.")
@click.option("--workdir", type=FILE, default=None, help="Put the runs here instead of runs/<name>-ablate.")
@PLACE
@TRUST
def ablate(
    recipe: Path, vary: tuple[str, ...], seeds: int, overrides: tuple[str, ...], workdir: Path | None,
    place: str | None, *, trust_models: bool,
) -> None:  # fmt: skip
    """Run variants of RECIPE over seeds and tell how much each choice matters.

    Every combination of the --vary values is run with each seed; stages that variants share are computed once, and
    the same command goes on after a kill. Runs go side by side where the place has room. For keys that hold a list,
    none is the empty one and a+b is [a, b].
    """
    done = ipip_ext.ablate(
        recipe, vary, *at_place(overrides, place), seeds=seeds, folder=workdir, trust_models=trust_models
    )
    echo(f"\n{done}")
