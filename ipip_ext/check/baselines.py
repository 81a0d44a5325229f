"""Can each baseline be had, and does it know the test frames? Its turn comes when all else is done."""

from __future__ import annotations

from ipip_ext.check.where import at, in_recipe
from ipip_ext.data import frames as fr
from ipip_ext.data import leakage
from ipip_ext.data.dataset import Dataset
from ipip_ext.errors import CalculatorError, DataError, RecipeError
from ipip_ext.potentials.base import FrameFailed
from ipip_ext.recipe.baselines import CalculatorBaseline, Conventional, Finetuned
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.stages.evaluate import known, split_for
from ipip_ext.stages.train import adopt
from ipip_ext.teachers import entries


def check_baselines(recipe: Recipe) -> None:
    """Raise RecipeError or CalculatorError for a baseline that can't be had; reads no data."""
    names = [baseline.name for baseline in recipe.baselines]
    for where, baseline in in_recipe(recipe):
        name = baseline.name
        if names.count(name) > 1:
            raise RecipeError(f"{recipe.file}: baselines: {name} stands more than once; each name may stand once.")
        if name == "ipip" or name.startswith("iteration-"):
            raise RecipeError(f"{where}.name: {name} is the name of a student; take another.")
        if isinstance(baseline, Conventional) and (split := split_for(baseline.elements)) in recipe.data.tests:
            taken = f"{split.removeprefix('test_')} is what the split of the baseline {name} is called"
            raise RecipeError(f"{recipe.file}: data.test: {taken}; give the set another name.")
        if isinstance(baseline, CalculatorBaseline | Conventional | Finetuned):
            with at(where):
                entries.check(baseline.calculator, recipe.folder)
        if baseline.kind == "no_forget" and recipe.iterations < 2:
            raise RecipeError(f"{where}: no_forget needs iterations: 2 or more; with one nothing is forgotten.")
        if baseline.kind == "no_forget" and recipe.label.reference is not None:
            raise RecipeError(
                f"{where}: no_forget would buy labels of its own by label.reference; leave one of them out, or compare"
                " by `ipip-mace ablate --vary forget.groups=...`."
            )
    walking = recipe.evaluate.stability and recipe.evaluate.stability.models
    for name in walking or ():
        if name not in ("ipip", *names):
            raise RecipeError(
                f"{recipe.file}: evaluate.stability.models: {name} is none of this run's models; take of"
                f" {', '.join(('ipip', *names))}."
            )


def try_baselines(recipe: Recipe, data: Dataset) -> None:
    """Raise a UserError if a baseline can't label a test frame or be trained: its turn comes when all else is done."""
    for where, baseline in in_recipe(recipe):
        if isinstance(baseline, Finetuned):
            with at(where):
                replay = [] if baseline.replay is None else fr.read_structures(baseline.replay)
                if len(replay) == 1:
                    raise DataError(
                        f"{baseline.replay}: holds one structure; replay takes 2 or more, of which one tests."
                    )
                leakage.refuse("replay", replay, {"valid": data.valid, "test": data.test})
                elements = fr.elements([*data.train, *data.test, *data.starts, *replay])
                backend, model = adopt(baseline.calculator, recipe.folder, elements)
                backend.lr_factors(model, baseline.fit)
        if not isinstance(baseline, CalculatorBaseline | Conventional):
            continue
        frames = data.test if baseline.kind == "calculator" else known(data.test, baseline.elements, "test")
        with at(where):
            potential = entries.make(baseline.calculator, device=recipe.device, root=recipe.folder)
        try:
            potential.compute(frames[:1])
        except FrameFailed as error:
            frame = frames[0].info[fr.ID]
            raise CalculatorError(
                f"{where}: can't label test frame {frame} ({error.message}); mend it or leave it out."
            ) from None
