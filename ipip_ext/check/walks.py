"""Can each walk of the recipe be walked, and its properties be compared?"""

from __future__ import annotations

from ipip_ext import md
from ipip_ext.backends import registry
from ipip_ext.check.trainings import sketch
from ipip_ext.check.where import at
from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import Dataset
from ipip_ext.data.frame_checks import check_elements
from ipip_ext.data.states import check_alike
from ipip_ext.measure.property_curves import check_strained, check_trajectory
from ipip_ext.recipe.evaluate import Properties
from ipip_ext.recipe.recipe import Recipe


def check_walks(recipe: Recipe) -> None:
    """Raise DataError or RecipeError for MD of `explore` or `sample` that would be refused when its turn comes."""
    for key, walk in (("explore", recipe.explore), ("sample", recipe.sample)):
        if walk is None:
            continue
        starts = fr.read_structures(walk.starts)
        with at(str(walk.starts)):
            md.check_starts(starts, walk.ensemble)
        if walk.max_trajectory_GB is not None:
            with at(f"{recipe.file}: {key}"):
                md.check_size(md.plan_replicas(starts, walk, seed=0, prefix=""), walk)


def check_engines(recipe: Recipe) -> None:
    """Raise RecipeError for an engine of MD that is not installed, or that can't walk with such a student."""
    for key, walk in (("explore", recipe.explore), ("sample", recipe.sample)):
        if walk is not None:
            with at(f"{recipe.file}: {key}"):
                md.check_engine(walk.engine)
    own = recipe.sample or recipe.explore
    if own.engine != "ase":  # which walks with any
        student = sketch(recipe.backend, recipe.student.model_dump_json())
        with at(f"{recipe.file}: sample"):
            md.check_engine(own.engine, registry.backend(recipe.backend).potential(student, "cpu"))


def check_properties(recipe: Recipe, wanted: Properties, data: Dataset) -> None:
    """Raise DataError for a reference of properties that can't be compared with."""
    if wanted.trajectory is not None:
        frames = fr.read_structures(wanted.trajectory)
        check_elements(wanted.trajectory, frames, recipe.data, data.train)
        check_alike(wanted.trajectory, frames, recipe.data, data.train)
        check_trajectory(wanted.trajectory, frames)
    if wanted.strained is not None:
        labelled = fr.read_labelled(wanted.strained, fr.LabelKeys(recipe.data.energy_key, recipe.data.forces_key))
        check_elements(wanted.strained, labelled, recipe.data, data.train)
        check_alike(wanted.strained, labelled, recipe.data, data.train)
        check_strained(wanted.strained, labelled)
