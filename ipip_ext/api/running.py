"""A run, begun or gone on with."""

from __future__ import annotations

from pathlib import Path

from ipip_ext import runner
from ipip_ext.api.recipes import admitted
from ipip_ext.api.runs import Run
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import signals, state, telling
from ipip_ext.run.bar import shown
from ipip_ext.run.events import Sink


def run(
    recipe: Recipe | str | Path, folder: str | Path | None = None, *, redo: str | None = None,
    progress: bool | Sink = True, trust_models: bool = False,
) -> Run:  # fmt: skip
    """Run a recipe, or go on where its run stands; return the finished run.

    folder: of the run; None: `runs/<name>` in the working directory. redo: name of a stage from which to start over.
    progress: True for one line of progress, False for silence, or a function to be given every `Event`.
    trust_models: let a recipe of another user load pickled models and run Python code.
    In the main thread SIGINT (Ctrl-C), SIGTERM and SIGUSR1 stop it at its next safe point by a KeyboardInterrupt; the
    same call goes on. What the process shares (threads, random numbers, loggers...) is as before when it returns.
    Raises UserError before anything is written if recipe, data, teacher or folder are not in order, or if another
    thread or process is at work there; StageFailed if a computation failed, and what was finished stays.
    """
    recipe = admitted(recipe, trusted=trust_models)
    folder = Path("runs") / recipe.name if folder is None else Path(folder)
    with state.kept(), signals.stoppable(), shown(progress, recipe.name) as show, telling.to(show):
        runner.run(recipe, folder, redo, quiet=show is None, show=show)
    return Run(folder)
