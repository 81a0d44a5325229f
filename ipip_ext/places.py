"""Where a run's stages are computed: the place that its recipe names, made ready."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipip_ext
from ipip_ext.errors import CalculatorError, JobLost
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import device
from ipip_ext.run.cluster import Cluster, Submitted
from ipip_ext.run.events import EventBus
from ipip_ext.run.outside import HERE, Place
from ipip_ext.run.pool import Pool
from ipip_ext.run.scheduler import Scheduler
from ipip_ext.run.stage import Surroundings

_POLL_S, _SAY_EVERY_S = 0.2, 30.0

_RUNS_ON_A_CLUSTER = 4
"""Runs of a grid at once whose stages a cluster computes: each keeps a process on the machine that submits."""


def place_of(recipe: Recipe, folder: Path) -> Place | None:
    """Return where the stages of `recipe` are computed, None for this process. folder: the run's.

    Raises RecipeError for a place file that can't be used.
    """
    wanted = kind_of(recipe)
    if wanted == HERE:
        return None
    if wanted == "processes":
        return Pool(folder, workers_of(recipe))
    return cluster_of(recipe, folder)


def cluster_of(recipe: Recipe, folder: Path) -> Cluster:
    """Return the executors of the recipe's place file. Raises RecipeError if it can't be used."""
    compute = recipe.compute
    assert compute.parsl is not None
    return Cluster(folder, compute.parsl, compute.stages)


def kind_of(recipe: Recipe) -> str:
    """Return the place's kind, whether the recipe names it or leaves it to the machine."""
    if recipe.compute.place is not None:
        return recipe.compute.place
    has_room = device.room_beside(recipe.device, recipe.threads) > 0
    return "processes" if recipe.parallel and has_room else HERE


def workers_of(recipe: Recipe) -> int:
    """Return how many processes `processes` has."""
    if recipe.compute.workers is not None:
        return recipe.compute.workers
    return 1 + device.room_beside(recipe.device, recipe.threads)


def at_once(recipe: Recipe) -> int:
    """Return how many stages this machine computes at once."""
    return workers_of(recipe) if kind_of(recipe) == "processes" else 1


def runs_at_once(recipe: Recipe, n_runs: int) -> int:
    """Return how many of a grid's runs go at once; each has its share of the workers, or blocks of its own."""
    kind = kind_of(recipe)
    room = {HERE: 1, "processes": workers_of(recipe), "parsl": recipe.compute.workers or _RUNS_ON_A_CLUSTER}[kind]
    return max(1, min(n_runs, room))


def scheduler_of(recipe: Recipe, place: Place | None, bus: EventBus, around: Surroundings) -> Scheduler | None:
    """Return who hands stages to `place`; None where they are computed as they are met."""
    return None if place is None else Scheduler(place, bus, around, retries=recipe.compute.retries)


def check(recipe: Recipe) -> None:
    """Raise RecipeError for a place file that can't be used; starts nothing."""
    if kind_of(recipe) == "parsl":
        cluster_of(recipe, Path())


def prove(recipe: Recipe, folder: Path, say: Callable[[str], None]) -> list[str]:
    """Have each executor of the recipe's place file do a job of seconds; return what it says of itself, a line each.

    folder: which the workers must see. say: takes a line while it lasts, which is as long as the queues are.
    Raises CalculatorError for an executor that does not work, RecipeError for a file that can't be used.
    """
    if kind_of(recipe) != "parsl":
        return []
    with tempfile.TemporaryDirectory(prefix=".ipip-proof-", dir=folder) as own:
        cluster = cluster_of(recipe, Path(own))
        try:
            waited = {name: _answer(name, future, cluster, say) for name, future in cluster.prove().items()}
        finally:
            cluster.stop()
    return [
        f"executor {name}: {found['host']}, Python {found['python']}, torch {found['torch']}, mace-torch"
        f" {found['mace-torch']}, ipip-mace {found['ipip-mace']}, {found['device']}, first answer after {took_s:.0f} s"
        for name, (found, took_s) in waited.items()
    ]


def _answer(name: str, future: Any, cluster: Cluster, say: Callable[[str], None]) -> tuple[Mapping[str, Any], float]:
    submitted = Submitted(future, cluster, name)
    begun = said = time.monotonic()
    try:
        while not submitted.is_gone():
            time.sleep(_POLL_S)
            if time.monotonic() - said > _SAY_EVERY_S:
                said = time.monotonic()
                say(f"executor {name}: waits for its first worker ({submitted.where})")
        if future.exception() is not None:
            raise JobLost(f"executor {name}: its worker {submitted.fate}")
    except JobLost as error:
        raise CalculatorError(str(error)) from error
    found: Mapping[str, Any] = future.result()
    if found["ipip-mace"] != ipip_ext.__version__:
        raise CalculatorError(
            f"executor {name}: has ipip-mace {found['ipip-mace']}, and this is {ipip_ext.__version__}; install the same"
            " version where jobs run."
        )
    if not found["sees"]:
        raise CalculatorError(
            f"executor {name}: {found['host']} doesn't see {Path.cwd()}; runs must be where nodes see them."
        )
    return found, time.monotonic() - begun
