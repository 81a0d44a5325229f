"""What can be known before anything is computed: is all in order?"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext import md
from ipip_ext.backends import registry
from ipip_ext.backends.base import Model
from ipip_ext.check.rehearsal import rehearse
from ipip_ext.data import frames as fr
from ipip_ext.data import leakage, metrics
from ipip_ext.data.dataset import Dataset, load_dataset
from ipip_ext.data.frame_checks import check_apart, check_elements
from ipip_ext.errors import CalculatorError, DataError, RecipeError, UserError, did_you_mean
from ipip_ext.measure.property_curves import check_strained, check_trajectory
from ipip_ext.potentials.base import Array, FrameFailed, Potential, Prediction
from ipip_ext.potentials.compute import require_stress
from ipip_ext.recipe import students
from ipip_ext.recipe.baselines import Baseline, CalculatorBaseline, Conventional, Finetuned
from ipip_ext.recipe.evaluate import Properties
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import telling
from ipip_ext.stages.adapt import check_settings
from ipip_ext.stages.evaluate import known
from ipip_ext.stages.speed_cells import supercell
from ipip_ext.stages.train import adopt
from ipip_ext.teachers import entries
from ipip_ext.teachers.correction.fit import check as check_correction

_PROBES = 12
_FREE = 6
"""Energies left to compare once each element has its zero; fewer may agree by chance."""


def check(recipe: Recipe) -> tuple[Dataset, Potential]:
    """Raise a UserError for anything wrong with recipe, data or teacher; return what was loaded."""
    check_names(recipe)
    data = check_data(recipe)
    with _at(f"{recipe.file}: teacher"):
        teacher = entries.make(recipe.teacher, device=recipe.device, root=recipe.folder)
    with _at(f"{recipe.file}: explore"):
        md.check_engine(recipe.explore.engine, teacher)
    if recipe.explore.ensemble == "npt":
        with _at(f"{recipe.file}: teacher"):
            require_stress(teacher, data.starts[0])
    if recipe.adapt is not None and isinstance(recipe.teacher, dict) and "mace" in recipe.teacher:
        with _at(f"{recipe.file}: adapt"):
            adopt(recipe.teacher, recipe.folder, fr.elements([*data.train, *data.test, *data.starts]))
    _try_baselines(recipe, data)
    task = recipe.data
    for path, frames in ((task.train, data.train), (task.valid, data.valid), (task.test, data.test)):
        if path is not None:
            check_units(path, frames, teacher)
    rehearse(recipe, data, teacher)
    return data, teacher


def check_data(recipe: Recipe) -> Dataset:
    """Raise DataError or RecipeError for anything wrong with frames and starts; return what was loaded."""
    with telling.on_terminal("check") as tell:
        data = load_dataset(recipe.data, recipe.explore.starts, recipe.seed, tell)
    for walk in (recipe.sample, recipe.evaluate.stability, recipe.evaluate.properties):
        if walk is not None and walk.starts is not None:
            own = fr.read_structures(walk.starts)
            check_elements(walk.starts, own, recipe.data, data.train)
            check_apart(walk.starts, own)
            with _at(str(walk.starts)):
                md.check_starts(own, getattr(walk, "ensemble", "nvt_langevin"))
    _check_walks(recipe)
    if recipe.evaluate.properties is not None:
        _check_properties(recipe, recipe.evaluate.properties, data)
    with _at(recipe.file):
        supercell(data.starts, recipe.evaluate)
        check_correction(data.train, recipe.correct)
    for where, baseline in _in_recipe(recipe):
        if baseline.kind == "conventional":
            with _at(where):
                known(data.test, baseline.elements, "test")
                known(data.train, baseline.elements, "training")
    return data


def _check_properties(recipe: Recipe, wanted: Properties, data: Dataset) -> None:
    """Raise DataError for a reference of properties that can't be compared with."""
    if wanted.trajectory is not None:
        frames = fr.read_structures(wanted.trajectory)
        check_elements(wanted.trajectory, frames, recipe.data, data.train)
        check_trajectory(wanted.trajectory, frames)
    if wanted.strained is not None:
        labelled = fr.read_labelled(wanted.strained, fr.LabelKeys(recipe.data.energy_key, recipe.data.forces_key))
        check_elements(wanted.strained, labelled, recipe.data, data.train)
        check_strained(wanted.strained, labelled)


def _check_walks(recipe: Recipe) -> None:
    """Raise DataError or RecipeError for MD of `explore` or `sample` that would be refused when its turn comes."""
    for key, walk in (("explore", recipe.explore), ("sample", recipe.sample)):
        if walk is None:
            continue
        starts = fr.read_structures(walk.starts)
        with _at(str(walk.starts)):
            md.check_starts(starts, walk.ensemble)
        if walk.max_trajectory_GB is not None:
            with _at(f"{recipe.file}: {key}"):
                md.check_size(md.plan_replicas(starts, walk, seed=0, prefix=""), walk)


def check_names(recipe: Recipe) -> None:
    """Raise RecipeError or CalculatorError for a name in the recipe that nothing has; reads no data."""
    _check_groups(recipe)
    _check_baselines(recipe)
    _check_engines(recipe)
    with _at(f"{recipe.file}: teacher"):
        entries.check(recipe.teacher, recipe.folder)
    if recipe.adapt is not None:
        with _at(f"{recipe.file}: adapt"):
            check_settings(recipe.teacher, recipe.adapt)
    if recipe.label.reference is not None:
        with _at(f"{recipe.file}: label.reference.calculator"):
            entries.check(recipe.label.reference.calculator, recipe.folder)


def _check_engines(recipe: Recipe) -> None:
    """Raise RecipeError for an engine of MD that is not installed, or that can't walk with such a student."""
    for key, walk in (("explore", recipe.explore), ("sample", recipe.sample)):
        if walk is not None:
            with _at(f"{recipe.file}: {key}"):
                md.check_engine(walk.engine)
    own = recipe.sample or recipe.explore
    if own.engine != "ase":  # which walks with any
        sketch = _sketch(recipe.backend, recipe.student.model_dump_json())
        with _at(f"{recipe.file}: sample"):
            md.check_engine(own.engine, registry.backend(recipe.backend).potential(sketch, "cpu"))


def _check_baselines(recipe: Recipe) -> None:
    """Raise RecipeError or CalculatorError for a baseline that can't be had; reads no data."""
    names = [baseline.name for baseline in recipe.baselines]
    for where, baseline in _in_recipe(recipe):
        name = baseline.name
        if names.count(name) > 1:
            raise RecipeError(f"{recipe.file}: baselines: {name} stands more than once; each name may stand once.")
        if name == "ipip" or name.startswith("iteration-"):
            raise RecipeError(f"{where}.name: {name} is the name of a student; take another.")
        if isinstance(baseline, CalculatorBaseline | Conventional | Finetuned):
            with _at(where):
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


def _try_baselines(recipe: Recipe, data: Dataset) -> None:
    """Raise a UserError if a baseline can't label a test frame or be trained: its turn comes when all else is done."""
    for where, baseline in _in_recipe(recipe):
        if isinstance(baseline, Finetuned):
            with _at(where):
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
        with _at(where):
            potential = entries.make(baseline.calculator, device=recipe.device, root=recipe.folder)
        try:
            potential.compute(frames[:1])
        except FrameFailed as error:
            frame = frames[0].info[fr.ID]
            raise CalculatorError(
                f"{where}: can't label test frame {frame} ({error.message}); mend it or leave it out."
            ) from None


def _in_recipe(recipe: Recipe) -> list[tuple[str, Baseline]]:
    """Return the baselines, each with its place as messages give it."""
    return [(f"{recipe.file}: baselines.{i}", baseline) for i, baseline in enumerate(recipe.baselines)]


def _check_groups(recipe: Recipe) -> None:
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
            backend.lr_factors(_sketch(recipe.backend, recipe.student.model_dump_json()), fit)
        except RecipeError as error:
            raise RecipeError(f"{recipe.file}: {key}.{error}") from None


@functools.lru_cache(maxsize=4)
def _sketch(backend: str, student: str) -> Model:
    """Return a student for hydrogen, whose parameters have the names of any other's; student: its config as JSON.

    Cached, because a grid asks for the same one in each of its runs and building takes about a second.
    """
    atom = fr.labelled(Atoms("H"), Prediction(0.0, np.zeros((1, 3))), "none")
    config = students.config_class(backend).model_validate_json(student)
    return registry.backend(backend).build(config, {"H": 0.0}, [atom], seed=0)


def check_units(path: Path, frames: Sequence[Atoms], teacher: Potential) -> None:
    """Raise DataError if labels are a constant times what the teacher says, far from 1.

    A teacher may be wrong by half, not by the 23 of kcal/mol or the 0.02 of hartree/bohr.
    """
    some = frames[:: max(1, len(frames) // _PROBES)][:_PROBES]
    try:
        said = teacher.compute(some)
    except FrameFailed as error:
        raise DataError(
            f"{path}: frame {some[error.index].info[fr.ID]}: the teacher can't label it ({error.message});"
            " take it out, or choose another teacher."
        ) from None
    labels = [fr.labels_of(frame) for frame in some]
    slope = _slope(_forces(said), _forces(labels), agree=0.6)
    if not 1 / 6 < slope < 6:
        raise DataError(
            f"{path}: forces are {slope:.3g} times what {teacher.name} gives; that looks like another unit"
            " (kcal/mol/A: 23, hartree/bohr: 0.019). Convert them to eV/A."
        )
    if len(some) - len(fr.elements(some)) < _FREE:
        return
    slope = _slope(_energies_above_zeros(some, said), _energies_above_zeros(some, labels), agree=0.9)
    if not 1 / 6 < slope < 6:
        raise DataError(
            f"{path}: energies are {slope:.3g} times what {teacher.name} gives; that looks like another unit"
            " (kcal/mol: 23, hartree: 0.037) or like energies per atom. Convert them to eV per cell."
        )


def _forces(predictions: Sequence[Prediction]) -> Array:
    return np.concatenate([p.forces_eV_per_A.ravel() for p in predictions])


def _energies_above_zeros(frames: Sequence[Atoms], predictions: Sequence[Prediction]) -> Array:
    counts = fr.composition(frames, sorted(fr.elements(frames)))
    energy = np.array([p.energy_eV for p in predictions])
    return energy - counts @ metrics.fit_zeros(counts, energy)


def _slope(said: Array, wanted: Array, *, agree: float) -> float:
    """Return how many times larger `wanted` is; 1 where they correlate by less than `agree` and so tell nothing."""
    if np.std(said) < 1e-6 or np.std(wanted) < 1e-6 or np.corrcoef(said, wanted)[0, 1] < agree:
        return 1.0
    return float(said @ wanted / (said @ said))


@contextlib.contextmanager
def _at(where: str) -> Iterator[None]:
    """Say where in the recipe an error is."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{where}: {error}") from error
