"""One recipe with some keys varied, over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ipip_ext.api.recipes import admitted, as_sets, dotted, in_yaml
from ipip_ext.api.runs import Run
from ipip_ext.api.tables import as_table
from ipip_ext.compare import ablate_report, grid
from ipip_ext.compare.ablate import run as run_grid
from ipip_ext.errors import RecipeError
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.report.html import parts
from ipip_ext.run import layout, signals, state, telling
from ipip_ext.run.console import Console
from ipip_ext.run.printable import printable
from ipip_ext.stages.report import read_rows
from ipip_ext.stages.report_tables import Row


def ablate(
    recipe: str | Path, vary: Mapping[str, Any] | Sequence[str], *sets: str, seeds: int = 3,
    folder: str | Path | None = None, progress: bool = True, trust_models: bool = False, **overrides: Any,
) -> Ablation:  # fmt: skip
    """Run variants of a recipe over seeds, or go on where that stands; return how much each choice matters.

    recipe: path of a recipe file. vary: lists of values by recipe key, {"finetune.lr": [0.003, 0.01]}, or as `--vary`
    takes them; every combination is run. sets, overrides: as of `load_recipe`, for all variants. seeds: runs of each
    variant, from the recipe's own seed on. folder: None: `runs/<name>-ablate`. progress: a line for each run.
    trust_models: as of `run`.
    Stages that variants share are computed once. It stops on signals and leaves the process as `run` does.
    Raises UserError before anything is written for whatever would stop one of the runs; what a run raises, with the
    variant named.
    """

    def may_run(recipes: Sequence[Recipe]) -> None:
        for one in recipes:
            admitted(one, trusted=trust_models)

    with state.kept(), signals.stoppable(), telling.to(Console() if progress else None):
        planned = grid.plan(
            Path(recipe), _texts(vary), sets=[*sets, *as_sets(overrides)], n_seeds=seeds,
            folder=None if folder is None else Path(folder), before=may_run,
        )  # fmt: skip
        run_grid(planned, _say if progress else _keep_silent)
    return Ablation(planned.folder)


@dataclass(frozen=True)
class Ablation:
    """A finished grid of runs. folder: of its runs and tables."""

    folder: Path

    @property
    def runs(self) -> list[Run]:
        """Every run of every variant."""
        return [Run(path.parent) for path in sorted(self.folder.glob(f"*/seed-*/{layout.TABLE}"))]

    @property
    def text(self) -> str:
        """Means, spreads over seeds, and differences in pairs."""
        return (self.folder / ablate_report.TABLE).read_text(encoding="utf-8")

    def rows(self) -> list[Row]:
        """Return ablate.csv: a dict for each variant, seed, model and split."""
        return read_rows(self.folder / ablate_report.CSV)

    def table(self) -> Any:
        """Return `rows` as a pandas.DataFrame, or as they are where pandas is not installed."""
        return as_table(self.rows())

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return parts.preformatted(self.text)


def _texts(vary: Mapping[str, Any] | Sequence[str]) -> Sequence[str]:
    """Return what is varied as `--vary` takes it: the values of a list without its brackets."""
    if not isinstance(vary, Mapping):
        return vary
    lists = {key: in_yaml(key, values) for key, values in vary.items()}
    for key, text in lists.items():
        if not text.startswith("["):
            raise RecipeError(f"ablate: {dotted(key)}: give a list of values to vary, not {text}.")
    return [f"{dotted(key)}={text[1:-1]}" for key, text in lists.items()]


def _say(line: str) -> None:
    click.echo(printable(line), err=True)


def _keep_silent(_line: str) -> None:
    pass
