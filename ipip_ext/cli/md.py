"""`ipip-mace md`: MD with a finished model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import ipip_ext
from ipip_ext.cli.echo import echo
from ipip_ext.errors import RecipeError
from ipip_ext.run.console import Console

_ABOVE_0, _FROM_0, _FROM_1 = click.FloatRange(min=0, min_open=True), click.IntRange(min=0), click.IntRange(min=1)


@click.command()
@click.argument("model")
@click.argument("structure")
@click.option(
    "--ensemble", type=click.Choice(["nvt", "nvt_bussi", "nve", "npt"]), default="nvt", show_default=True,
    help="nvt: Langevin. nvt_bussi: stochastic velocity rescaling. npt: the cell keeps its shape.",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(["ase", "torchsim"]), default="ase", show_default=True,
    help="torchsim: for MACE models, with the extra torchsim and Python 3.12 or newer.",
)  # fmt: skip
@click.option(
    "--temperature-K", "temperatures", multiple=True, default=("300",), show_default=True, metavar="T|A:B",
    help="Kelvin, or a ramp from A to B; give it again for a walk at each. In nve: of the first velocities.",
)  # fmt: skip
@click.option("--pressure-GPa", "pressure_GPa", type=float, default=None, help="Of npt; 0 where it is not given.")
@click.option("--time-ps", "time_ps", type=_ABOVE_0, default=10.0, show_default=True, help="Length of each walk.")
@click.option("--timestep-fs", "timestep_fs", type=_ABOVE_0, default=1.0, show_default=True)
@click.option("--frame-every", type=_FROM_1, default=None, help="Steps between frames and lines of the log.  [20]")
@click.option(
    "--replicas", type=_FROM_1, default=1, show_default=True, help="Walks of each structure at each temperature."
)
@click.option("--friction-per-fs", type=_ABOVE_0, default=0.01, show_default=True, help="Of nvt and npt.")
@click.option("--barostat-time-fs", type=_ABOVE_0, default=1000.0, show_default=True, help="Of npt.")
@click.option(
    "--initial-temperature-factor", type=_ABOVE_0, default=1.0, show_default=True,
    help="Velocities begin at this times the temperature. From a relaxed structure about half of it is lost.",
)  # fmt: skip
@click.option(
    "--supercell", type=click.IntRange(1, 100), nargs=3, default=(1, 1, 1), show_default=True, metavar="A B C"
)
@click.option("--restarts", type=_FROM_0, default=0, show_default=True, help="Of a walk that ran wild.")
@click.option(
    "--guard", "limits", multiple=True, metavar="KEY=VALUE",
    help="When a walk is stopped: the recipe's guard, such as max_temperature_factor=20.",
)  # fmt: skip
@click.option(
    "--on-unknown", type=click.Choice(["ignore", "warn", "stop"]), default="warn", show_default=True,
    help="Outside of what a student has learnt: warn tells, stop ends a walk that is far outside.",
)  # fmt: skip
@click.option("--max-batch-replicas", type=_FROM_1, default=32, show_default=True, help="Walks evaluated together.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=1, show_default=True,
    help="CPU threads; more pay for large cells.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder of the results.  [md/<structure>]")
@click.option("--trust-models", is_flag=True, help="Let another user's file load pickled models.")
def md(
    model: str, structure: str, temperatures: tuple[str, ...], limits: tuple[str, ...], out: Path | None, **options: Any
) -> None:  # fmt: skip
    """Run MD of STRUCTURE with MODEL; the same command goes on after a stop.

    MODEL: a run or student folder, a MACE .model file, or a calculator entry such as chgnet or '{xtb: GFN1-xTB}'.
    STRUCTURE: a file in any format that ASE reads, or file@index, such as md.traj@-1 or some.extxyz@:10; each of
    its structures walks. Velocities are drawn anew.
    """
    done = ipip_ext.simulate(
        model, structure, out, progress=Console(), temperatures_K=[_temperature(text) for text in temperatures],
        guard=_limits(limits), **options,
    )  # fmt: skip
    echo(f"{done}\n{done.folder}: trajectory.extxyz, log.csv, summary.json")


def _temperature(text: str) -> float | tuple[float, float]:
    """Return a temperature, or both ends of a ramp; Explore checks their range."""
    try:
        first, *last = (float(part) for part in text.split(":"))
        if len(last) > 1:
            raise ValueError
    except ValueError:
        raise RecipeError(f"md: temperature-K {text} must be a number, or two with a colon such as 300:900.") from None
    return (first, last[0]) if last else first


def _limits(given: tuple[str, ...]) -> dict[str, str]:
    """Return guard keys with their values, which Explore checks."""
    if wrong := [text for text in given if "=" not in text]:
        raise RecipeError(f"md: guard {wrong[0]} must read KEY=VALUE, such as max_force_eV_per_A=100.")
    return {key: value for key, _, value in (text.partition("=") for text in given)}
