"""The command line: `ipip-mace`."""

from __future__ import annotations

import errno
import functools
import json
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ipip_ext import __version__
from ipip_ext.cli import md
from ipip_ext.errors import IpipError, UserError
from ipip_ext.run import signals

Run = Callable[..., Any]
FILE = click.Path(path_type=Path)
_OF_THE_PLACE = (errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.EPERM)
"""What may be wrong with a path before anyone has looked into the file."""
TRUST = click.option(
    "--trust-models", is_flag=True, help="Let another user's recipe or file load pickled models and run Python code."
)


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
        except OSError as error:
            if error.filename is None or error.errno not in _OF_THE_PLACE:
                raise
            click.echo(f"error: {error.filename}: {error.strerror}; name another file.", err=True)
            ctx.exit(2)
        except signals.Stopped as stop:
            click.echo(f"stopped by {stop}; all that is finished is kept. To go on: {_again()}", err=True)
            ctx.exit(stop.exit_code)
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
    @TRUST
    @functools.wraps(command)
    def wrapped(recipe: Path, overrides: tuple[str, ...], trust_models: bool, **options: Any) -> Any:
        from ipip_ext.recipe.file import load_recipe

        loaded = load_recipe(recipe, overrides)
        _require_trust(loaded, trusted=trust_models)
        return command(loaded, **options)

    return wrapped


@main.command()
@click.argument("path", type=FILE, default=Path("recipe.yaml"))
def init(path: Path) -> None:
    """Write a commented recipe to PATH."""
    from ipip_ext.recipe.reference import STARTER, commented

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
    from ipip_ext.check import planning, preflight
    from ipip_ext.check.cautions import cautions
    from ipip_ext.run.console import duration
    from ipip_ext.runner import on_this_machine

    recipe = on_this_machine(recipe)
    data, teacher = preflight.check(recipe)
    plan = planning.plan(recipe, data, teacher)
    for caution in cautions(recipe, data):
        _warn(f"warning: {caution}")
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
    from ipip_ext import runner
    from ipip_ext.tracking import mirror

    folder = workdir or Path("runs") / recipe.name
    with signals.stoppable():
        done = runner.run(recipe, folder, redo)
    click.echo(f"\n{done.table.read_text(encoding='utf-8')}")
    click.echo(f"model: {folder / 'model'}")
    if recipe.tracking.enabled:
        click.echo(f"compare: {mirror.run_url_hint(recipe.tracking)}")


@main.command()
@click.argument("recipe", type=FILE)
@click.option("--vary", multiple=True, metavar="KEY=A,B,C", help="Values of a recipe key; give it again for a grid.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each variant.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a recipe key in all variants.")
@click.option("--workdir", type=FILE, default=None, help="Put the runs here instead of runs/<name>-ablate.")
@TRUST
def ablate(
    recipe: Path, vary: tuple[str, ...], seeds: int, overrides: tuple[str, ...], workdir: Path | None,
    trust_models: bool,
) -> None:  # fmt: skip
    """Run variants of RECIPE over seeds and tell how much each choice matters.

    Every combination of the --vary values is run with each seed; stages that variants share are computed once, and
    the same command goes on after a kill. For keys that hold a list, none is the empty one and a+b is [a, b].
    """
    from ipip_ext.compare import ablate, grid

    def may_run(recipes: Sequence[Any]) -> None:
        for one in recipes:
            _require_trust(one, trusted=trust_models)

    with signals.stoppable():
        planned = grid.plan(recipe, vary, sets=overrides, n_seeds=seeds, folder=workdir, before=may_run)
        table = ablate.run(planned, functools.partial(click.echo, err=True))
    click.echo(f"\n{table.read_text(encoding='utf-8')}")


@main.command()
@click.argument("folder", type=FILE)
def status(folder: Path) -> None:
    """Tell where the run in FOLDER stands."""
    from ipip_ext.check.status import describe

    click.echo(describe(folder))


@main.command()
@click.argument("folders", type=FILE, nargs=-1, required=True)
@click.option("--html", type=FILE, default=None, metavar="FILE", help="Write a report over all of them too.")
def compare(folders: tuple[Path, ...], html: Path | None) -> None:
    """Print one table over several runs or grids of runs; of a single run its own, whole.

    It says whether the runs have the same test frames. Runs that differ in nothing but the seed are also averaged;
    runs that differ in the number of reference labels make a learning curve.
    """
    from ipip_ext.compare import finished
    from ipip_ext.compare.runs import Comparison

    found = Comparison(finished.read(folders))
    click.echo(f"{folders[0]}\n{found.runs[0].text}" if len(found.runs) == 1 else found)
    if html is not None:
        found.write_html(html)
        click.echo(f"report: {html}")


@main.command()
@click.argument("folder", type=FILE)
def verify(folder: Path) -> None:
    """Check that the files of the finished run in FOLDER are whole and that its table is what they give.

    Exit code 0 if all claims hold, 1 if one does not.
    """
    from ipip_ext.check.verify import verify as check_claims

    claims = check_claims(folder)
    for claim in claims:
        click.echo(f"WRONG  {claim.text}: {claim.problem}" if claim.problem else f"holds  {claim.text}")
    wrong = sum(bool(claim.problem) for claim in claims)
    click.echo(f"{wrong} of {len(claims)} claims do not hold" if wrong else f"all {len(claims)} claims hold")
    sys.exit(1 if wrong else 0)


@main.command()
@click.option("--markdown", is_flag=True, help="The reference page instead of the JSON schema.")
def schema(markdown: bool) -> None:
    """Print the JSON schema of recipes."""
    from ipip_ext.recipe import file, reference

    click.echo(reference.reference() if markdown else file.json_schema(), nl=not markdown)


@main.command()
@click.argument("folder", type=FILE)
def track(folder: Path) -> None:
    """Mirror the run or the ablation in FOLDER to MLflow, as far as it is not there yet."""
    from ipip_ext.tracking import mirror

    recipe = _recipe_of(folder)
    inner = sorted(path.parent for path in folder.glob("*/seed-*/events.jsonl"))
    count = sum(mirror.replay(one, recipe.tracking) for one in (folder, *inner))
    click.echo(f"{count} events mirrored to {recipe.tracking.uri}")


@main.command()
@click.option("--uri", default="sqlite:///mlflow.db", show_default=True, help="MLflow store.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True)
def ui(uri: str, host: str, port: int) -> None:
    """Open MLflow's own UI on this store."""
    from ipip_ext.tracking import mirror

    if host not in ("127.0.0.1", "localhost", "::1"):
        click.echo(f"warning: whoever reaches {host}:{port} can read, change and delete these runs", err=True)
    sys.exit(mirror.serve_ui(uri, host, port))


@main.command()
@click.argument("model")
@click.argument("data", type=FILE)
@click.option("--energy-key", default="REF_energy", show_default=True)
@click.option("--forces-key", default="REF_forces", show_default=True)
@click.option("--stress-key", default=None)
@click.option("--device", default="auto", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@TRUST
def evaluate(
    model: str, data: Path, energy_key: str, forces_key: str, stress_key: str | None, device: str,
    batch_size: int, as_json: bool, trust_models: bool,
) -> None:  # fmt: skip
    """Measure MODEL on labelled frames.

    MODEL: a run or student folder, a MACE .model file, or a calculator entry such as chgnet or
    '{xtb: GFN1-xTB}'. Energies are compared as they come.
    """
    from ipip_ext.data import metrics
    from ipip_ext.data.frames import LabelKeys, read_labelled
    from ipip_ext.run import device as devices
    from ipip_ext.stages.evaluate import predict
    from ipip_ext.teachers.load import load_any

    frames = read_labelled(data, LabelKeys(energy_key, forces_key, stress_key))
    potential = load_any(model, devices.resolve(device), trusted=trust_models, say=_warn)
    found = metrics.errors(frames, predict(potential, frames, batch_size))
    if as_json:
        click.echo(json.dumps({"model": model, "data": str(data), "n_frames": len(frames), **found}))
        return
    click.echo(f"{model} on {len(frames)} frames of {data}")
    for key, value in found.items():
        click.echo(f"  {key:28s} {value:10.2f}")


main.add_command(md.md)


def _recipe_of(folder: Path) -> Any:
    from ipip_ext.recipe.file import load_recipe

    if (folder / "ablate.yaml").is_file():
        return load_recipe(folder / "ablate.yaml")
    _require_run(folder)
    return load_recipe(folder / "recipe.yaml")


def _require_trust(recipe: Any, *, trusted: bool) -> None:
    """Refuse another user's recipe that can run code, and put on record which pickled models will be loaded."""
    from ipip_ext.teachers import trust

    for finding in trust.require(recipe, trusted=trusted):
        if finding.sha256 is not None:
            _warn(str(finding))


def _warn(text: str) -> None:
    click.echo(text, err=True)


def _again() -> str:
    """Return the command that goes on; --redo would start over."""
    words = ["ipip-mace", *sys.argv[1:]]
    if "--redo" in words:
        del words[words.index("--redo") : words.index("--redo") + 2]
    return shlex.join(word for word in words if not word.startswith("--redo="))


def _require_run(folder: Path) -> None:
    if not (folder / "recipe.yaml").is_file():
        raise UserError(f"{folder}: is no run folder (it holds no recipe.yaml); runs are made by `ipip-mace run`.")


def _one_line(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines())  # calculators may have said many


if __name__ == "__main__":
    main()
