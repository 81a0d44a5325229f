"""Does each training train what it names?"""

from __future__ import annotations

import functools

import numpy as np
from ase import Atoms

from ipip_ext.backends import registry
from ipip_ext.backends.base import Model
from ipip_ext.data import frames as fr
from ipip_ext.errors import RecipeError, did_you_mean
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe import students
from ipip_ext.recipe.recipe import Recipe


def check_groups(recipe: Recipe) -> None:
    """Raise RecipeError for a parameter group that the backend has not, or a training that trains nothing."""
    backend = registry.backend(recipe.backend)
    for group in (group for groups in recipe.forget.schedule for group in groups):
        if group not in backend.group_names:
            hint = did_you_mean(group, backend.group_names)
            raise RecipeError(f"{recipe.file}: forget.groups: {group} is unknown.{hint}")
    trainings = {"pretrain": recipe.pretrain, "finetune": recipe.finetune}
    trainings |= {f"baselines.{i}.fit": b.fit for i, b in enumerate(recipe.baselines) if b.kind == "scratch"}
    for key, fit in trainings.items():
        if not (fit.freeze or fit.lr_factors):
            continue
        try:
            backend.lr_factors(sketch(recipe.backend, recipe.student.model_dump_json()), fit)
        except RecipeError as error:
            raise RecipeError(f"{recipe.file}: {key}.{error}") from None


@functools.lru_cache(maxsize=4)
def sketch(backend: str, student: str) -> Model:
    """Return a student for hydrogen, whose parameters have the names of any other's; student: its config as JSON.

    Cached, because a grid asks for the same one in each of its runs and building takes about a second.
    """
    atom = fr.labelled(Atoms("H"), Prediction(0.0, np.zeros((1, 3))), "none")
    config = students.config_class(backend).model_validate_json(student)
    return registry.backend(backend).build(config, {"H": 0.0}, [atom], seed=0)
