"""What is no error, and yet worth a word before a run."""

from __future__ import annotations

from ipip_ext import md
from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import Dataset
from ipip_ext.recipe.recipe import Recipe


def cautions(recipe: Recipe, data: Dataset) -> list[str]:
    """Return a line for each doubt about `recipe`. data: what it names, read."""
    walks = {
        "explore": recipe.explore,
        "sample": recipe.sample,
        "evaluate.stability": recipe.evaluate.stability,
        "evaluate.properties": recipe.evaluate.properties,
    }
    found = []
    for key, walk in walks.items():
        if walk is None:
            continue
        starts = data.starts if walk.starts in (None, recipe.explore.starts) else fr.read_structures(walk.starts)
        if said := md.too_long(walk.timestep_fs, starts):
            found.append(f"{recipe.file}: {key}: {said}")
    return found
