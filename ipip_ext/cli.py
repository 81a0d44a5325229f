"""The command line: `ipip-mace`."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ipip_ext import __version__
from ipip_ext.errors import IpipError, UserError

Run = Callable[..., Any]
FILE = click.Path(path_type=Path)


class Commands(click.Group):
    """Commands whose expected errors are one line and an exit code, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; 2 for what the user can mend, 1 for a computation that failed."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {_one_line(error)}", err=True)
            ctx.exit(2)
        except IpipError as error:
            click.echo(f"failed: {_one_line(error)}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command goes on from here", err=True)
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ipip-mace")
def main() -> None:
    """Make a small, fast MACE for your system from a foundation model and a few labels."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


def _with_recipe(command: Run) -> Run:
    @click.argument("recipe", type=FILE)
    @click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a recipe key.")
    @functools.wraps(command)
    def wrapped(recipe: Path, overrides: tuple[str, ...], **options: Any) -> Any:
        from ipip_ext.recipe_file import load_recipe

        return command(load_recipe(recipe, overrides), **options)

    return wrapped


@main.command()
@click.argument("path", type=FILE, default=Path("recipe.yaml"))
def init(path: Path) -> None:
    """Write a commented recipe to PATH."""
    from ipip_ext.recipe_docs import STARTER, commented

    if path.exists():
        raise UserError(f"{path}: is there already; name another file.")
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist; make it first.")
    try:
        path.write_text(commented(STARTER), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); name another place.") from None
    click.echo(f"wrote {path}; set the data, teacher and explore sections, then: ipip-mace check {path}")


@main.command()
@_with_recipe
def check(recipe: Any) -> None:
    """Validate RECIPE and its data without running, and print the plan and a rough cost."""
    from ipip_ext import preflight
    from ipip_ext.console import duration
    from ipip_ext.runner import on_this_machine

    recipe = on_this_machine(recipe)
    data, teacher = preflight.check(recipe)
    plan = preflight.plan(recipe, data, teacher)
    click.echo("\n".join(plan.lines))
    click.echo(f"\nrough cost on this machine ({recipe.device}):")
    for part, seconds in plan.seconds.items():
        click.echo(f"  {part:34s} {duration(seconds):>9s}")
    click.echo(f"  {'all':34s} {duration(sum(plan.seconds.values())):>9s}")


@main.command()
@_with_recipe
@click.option("--workdir", type=FILE, default=None, help="Put the run here instead of runs/<name>.")
@click.option("--redo", metavar="STAGE", default=None, help="Start over from this stage.")
def run(recipe: Any, workdir: Path | None, redo: str | None) -> None:
    """Run RECIPE, or go on where it stands."""
    from ipip_ext import runner, tracking

    folder = workdir or Path("runs") / recipe.name
    done = runner.run(recipe, folder, redo)
    click.echo(f"\n{done.table.read_text(encoding='utf-8')}")
    click.echo(f"model: {folder / 'model'}")
    if recipe.tracking.enabled:
        click.echo(f"compare: {tracking.run_url_hint(recipe.tracking)}")


@main.command()
@click.argument("recipe", type=FILE)
@click.option("--vary", multiple=True, metavar="KEY=A,B,C", help="Values of a recipe key; give it again for a grid.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each variant.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a recipe key in all variants.")
@click.option("--workdir", type=FILE, default=None, help="Put the runs here instead of runs/<name>-ablate.")
def ablate(recipe: Path, vary: tuple[str, ...], seeds: int, overrides: tuple[str, ...], workdir: Path | None) -> None:
    """Run variants of RECIPE over seeds and tell how much each choice matters.

    Every combination of the --vary values is run with each seed; stages that variants share are computed once, and
    the same command goes on after a kill. For keys that hold a list, none is the empty one and a+b is [a, b].
    """
    from ipip_ext import ablate as ablation

    grid = ablation.plan(recipe, vary, sets=overrides, n_seeds=seeds, folder=workdir)
    table = ablation.run(grid, functools.partial(click.echo, err=True))
    click.echo(f"\n{table.read_text(encoding='utf-8')}")


@main.command()
@click.argument("folder", type=FILE)
def status(folder: Path) -> None:
    """Tell where the run in FOLDER stands."""
    from ipip_ext.status import describe

    click.echo(describe(folder))


@main.command()
@click.argument("folders", type=FILE, nargs=-1, required=True)
def compare(folders: tuple[Path, ...]) -> None:
    """Print the comparison table of each run."""
    for folder in folders:
        _require_run(folder)
        path = folder / "compare.txt"
        if not path.is_file():
            raise UserError(f"{folder}: has no comparison yet; `ipip-mace status {folder}` tells where it stands.")
        click.echo(f"{folder}\n{path.read_text(encoding='utf-8')}")


@main.command()
@click.option("--markdown", is_flag=True, help="The reference page instead of the JSON schema.")
def schema(markdown: bool) -> None:
    """Print the JSON schema of recipes."""
    from ipip_ext import recipe_docs, recipe_file

    click.echo(recipe_docs.reference() if markdown else recipe_file.json_schema(), nl=not markdown)


@main.command()
@click.argument("folder", type=FILE)
def track(folder: Path) -> None:
    """Mirror the run or the ablation in FOLDER to MLflow, as far as it is not there yet."""
    from ipip_ext import tracking

    recipe = _recipe_of(folder)
    inner = sorted(path.parent for path in folder.glob("*/seed-*/events.jsonl"))
    count = sum(tracking.replay(one, recipe.tracking) for one in (folder, *inner))
    click.echo(f"{count} events mirrored to {recipe.tracking.uri}")


@main.command()
@click.option("--uri", default="sqlite:///mlflow.db", show_default=True, help="MLflow store.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True)
def ui(uri: str, host: str, port: int) -> None:
    """Open MLflow's own UI on this store."""
    from ipip_ext import tracking

    sys.exit(tracking.serve_ui(uri, host, port))


@main.command()
@click.argument("model")
@click.argument("data", type=FILE)
@click.option("--energy-key", default="REF_energy", show_default=True)
@click.option("--forces-key", default="REF_forces", show_default=True)
@click.option("--stress-key", default=None)
@click.option("--device", default="auto", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def evaluate(
    model: str, data: Path, energy_key: str, forces_key: str, stress_key: str | None, device: str,
    batch_size: int, as_json: bool,
) -> None:  # fmt: skip
    """Measure MODEL on labelled frames.

    MODEL: a run or student folder, a MACE .model file, or a calculator entry such as chgnet or
    '{xtb: GFN1-xTB}'. Energies are compared as they come.
    """
    from ipip_ext import metrics
    from ipip_ext.frames import LabelKeys, read_labelled
    from ipip_ext.load import load_any
    from ipip_ext.runner import resolve_device
    from ipip_ext.stages.evaluate import predict

    frames = read_labelled(data, LabelKeys(energy_key, forces_key, stress_key))
    potential = load_any(model, resolve_device(device))
    found = metrics.errors(frames, predict(potential, frames, batch_size))
    if as_json:
        click.echo(json.dumps({"model": model, "data": str(data), "n_frames": len(frames), **found}))
        return
    click.echo(f"{model} on {len(frames)} frames of {data}")
    for key, value in found.items():
        click.echo(f"  {key:28s} {value:10.2f}")


def _recipe_of(folder: Path) -> Any:
    from ipip_ext.recipe_file import load_recipe

    if (folder / "ablate.yaml").is_file():
        return load_recipe(folder / "ablate.yaml")
    _require_run(folder)
    return load_recipe(folder / "recipe.yaml")


def _require_run(folder: Path) -> None:
    if not (folder / "recipe.yaml").is_file():
        raise UserError(f"{folder}: is no run folder (it holds no recipe.yaml); runs are made by `ipip-mace run`.")


def _one_line(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines())  # calculators may have said many


if __name__ == "__main__":
    main()
