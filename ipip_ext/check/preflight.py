"""What can be known before anything is computed: is all in order?"""

from __future__ import annotations

from pathlib import Path

from ipip_ext import md
from ipip_ext.check import labels
from ipip_ext.check.baselines import check_baselines, try_baselines
from ipip_ext.check.rehearsal import rehearse
from ipip_ext.check.trainings import check_groups
from ipip_ext.check.walks import check_engines, check_properties, check_walks
from ipip_ext.check.where import at, in_recipe
from ipip_ext.data import frames as fr
from ipip_ext.data import leakage
from ipip_ext.data.dataset import Dataset, load_dataset
from ipip_ext.data.frame_checks import check_apart, check_elements
from ipip_ext.data.states import check_alike
from ipip_ext.potentials.base import Potential
from ipip_ext.potentials.compute import require_stress
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import telling
from ipip_ext.stages.adapt import check_settings
from ipip_ext.stages.evaluate import known
from ipip_ext.stages.speed_cells import supercell
from ipip_ext.stages.train import adopt
from ipip_ext.teachers import entries
from ipip_ext.teachers.correction.fit import check as check_correction


def check(recipe: Recipe) -> tuple[Dataset, Potential]:
    """Raise a UserError for anything wrong with recipe, data or teacher; return what was loaded, and found of it."""
    check_names(recipe)
    labels.check_weights(recipe)
    data = check_data(recipe)
    with at(f"{recipe.file}: teacher"):
        teacher = entries.make(recipe.teacher, device=recipe.device, root=recipe.folder)
    with at(f"{recipe.file}: explore"):
        md.check_engine(recipe.explore.engine, teacher)
    if recipe.explore.ensemble == "npt":
        with at(f"{recipe.file}: teacher"):
            require_stress(teacher, data.starts[0])
    if recipe.adapt is not None and isinstance(recipe.teacher, dict) and "mace" in recipe.teacher:
        with at(f"{recipe.file}: adapt"):
            adopt(recipe.teacher, recipe.folder, fr.elements([*data.train, *data.test, *data.starts]))
    try_baselines(recipe, data)
    data = labels.check(recipe, data, teacher)
    rehearse(recipe, data, teacher)
    return data, teacher


def findings_of(checked: object) -> tuple[str, ...]:
    """Return what `check` found odd but let pass, a sentence each; none of anything else."""
    data = checked[0] if isinstance(checked, tuple) else None
    return data.findings if isinstance(data, Dataset) else ()


def check_data(recipe: Recipe) -> Dataset:
    """Raise DataError or RecipeError for anything wrong with frames and starts; return what was loaded."""
    with telling.told("check") as tell:
        data = load_dataset(recipe.data, recipe.explore.starts, recipe.seed, tell)
    for walk in (recipe.sample, recipe.evaluate.stability, recipe.evaluate.properties):
        if walk is not None and walk.starts is not None:
            own = fr.read_structures(walk.starts)
            check_elements(walk.starts, own, recipe.data, data.train)
            check_apart(walk.starts, own)
            if walk is not recipe.sample or walk.starts != recipe.explore.starts:
                check_alike(walk.starts, own, recipe.data, data.train)
            with at(str(walk.starts)):
                md.check_starts(own, getattr(walk, "ensemble", "nvt_langevin"))
    check_walks(recipe)
    if recipe.evaluate.properties is not None:
        check_properties(recipe, recipe.evaluate.properties, data)
    with at(recipe.file):
        supercell(data.starts, recipe.evaluate)
        check_correction(data.train, recipe.correct)
    for where, baseline in in_recipe(recipe):
        if baseline.kind == "conventional":
            with at(where):
                known(data.test, baseline.elements, "test")
                known(data.train, baseline.elements, "training")
    return data


def check_unseen(recipe: Recipe, run_folder: Path) -> None:
    """Raise DataError for test frames that something in a run folder was trained on; `check` has read them."""
    data = load_dataset(recipe.data, recipe.explore.starts, recipe.seed)
    leakage.refuse_trained_on(run_folder, data.test)


def check_names(recipe: Recipe) -> None:
    """Raise RecipeError or CalculatorError for a name in the recipe that nothing has; reads no data."""
    check_groups(recipe)
    check_baselines(recipe)
    check_engines(recipe)
    with at(f"{recipe.file}: teacher"):
        entries.check(recipe.teacher, recipe.folder)
    if recipe.adapt is not None:
        with at(f"{recipe.file}: adapt"):
            check_settings(recipe.teacher, recipe.adapt)
    if recipe.label.reference is not None:
        with at(f"{recipe.file}: label.reference.calculator"):
            entries.check(recipe.label.reference.calculator, recipe.folder)
