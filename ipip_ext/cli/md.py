"""`ipip-mace md`: MD with a finished model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ipip_ext.errors import RecipeError
from ipip_ext.run import signals

_ENSEMBLES = {"nvt": "nvt_langevin", "nvt_bussi": "nvt_bussi", "nve": "nve", "npt": "npt"}
_ABOVE_0, _FROM_0, _FROM_1 = click.FloatRange(min=0, min_open=True), click.IntRange(min=0), click.IntRange(min=1)


@click.command()
@click.argument("model")
@click.argument("structure")
@click.option(
    "--ensemble", type=click.Choice(list(_ENSEMBLES)), default="nvt", show_default=True,
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
@click.option("--max-batch-replicas", type=_FROM_1, default=32, show_default=True, help="Walks evaluated together.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--threads", type=_FROM_1, default=1, show_default=True, help="CPU threads; more pay for large cells.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder of the results.  [md/<structure>]")
@click.option("--trust-models", is_flag=True, help="Let another user's file load pickled models.")
def md(
    model: str, structure: str, ensemble: str, temperatures: tuple[str, ...], pressure_GPa: float | None,
    supercell: tuple[int, int, int], restarts: int, limits: tuple[str, ...], seed: int, device: str, threads: int,
    out: Path | None, trust_models: bool, **keys: Any,
) -> None:  # fmt: skip
    """Run MD of STRUCTURE with MODEL; the same command goes on after a stop.

    MODEL: a run or student folder, a MACE .model file, or a calculator entry such as chgnet or '{xtb: GFN1-xTB}'.
    STRUCTURE: a file in any format that ASE reads, or file@index, such as md.traj@-1 or some.extxyz@:10; each of
    its structures walks. Velocities are drawn anew.
    """
    if pressure_GPa is not None and ensemble != "npt":
        raise RecipeError(f"md: pressure_GPa needs ensemble npt, not {ensemble}; nothing else keeps a pressure.")
    from ipip_ext.run import device as devices
    from ipip_ext.simulate import folder, plan, walk
    from ipip_ext.simulate.summary import table
    from ipip_ext.teachers.load import load_any

    settings = plan.settings_of(
        structure, ensemble=_ENSEMBLES[ensemble], temperatures_K=[_temperature(text) for text in temperatures],
        pressure_GPa=pressure_GPa or 0.0, guard={**_limits(limits), "restarts": restarts}, **keys,
    )  # fmt: skip
    planned = plan.plan(model, plan.read_starts(structure, supercell), settings, seed)
    place = out or Path("md") / Path(structure.partition("@")[0]).stem
    summary = folder.finished(planned, place)
    if summary is None:
        import torch

        torch.set_num_threads(threads)
        potential = load_any(model, devices.resolve(device), trusted=trust_models, say=_warn)
        with signals.stoppable():
            summary = walk.run(planned, potential, place)
    click.echo(f"{table(summary)}\n{place}: trajectory.extxyz, log.csv, summary.json")


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


def _warn(text: str) -> None:
    click.echo(text, err=True)
