"""Where a run's stages are computed: the place that its recipe names, made ready."""

from __future__ import annotations

from pathlib import Path

from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run.cluster import Cluster
from ipip_ext.run.events import EventBus
from ipip_ext.run.outside import HERE, Place
from ipip_ext.run.pool import Pool, workers_here
from ipip_ext.run.scheduler import Scheduler
from ipip_ext.run.stage import Surroundings


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
    has_room = recipe.parallel and recipe.device == "cpu" and recipe.threads is not None and workers_of(recipe) > 1
    return "processes" if has_room else HERE


def workers_of(recipe: Recipe) -> int:
    """Return how many processes `processes` has."""
    if recipe.compute.workers is not None:
        return recipe.compute.workers
    return workers_here(recipe.threads) if recipe.device == "cpu" else 1


def scheduler_of(recipe: Recipe, place: Place | None, bus: EventBus, around: Surroundings) -> Scheduler | None:
    """Return who hands stages to `place`; None where they are computed as they are met."""
    return None if place is None else Scheduler(place, bus, around, retries=recipe.compute.retries)
