"""What can be known before anything is computed: is all in order, and what will it cost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext import calculators, metrics
from ipip_ext import frames as fr
from ipip_ext.backends import registry
from ipip_ext.dataset import Dataset, check_apart, check_elements, load_dataset
from ipip_ext.errors import DataError, RecipeError, UserError, did_you_mean
from ipip_ext.potential import Array, FrameFailed, Potential, Prediction
from ipip_ext.recipe import Explore, Recipe
from ipip_ext.stages.speed import supercell

_PROBES = 12
_FREE = 6
"""Energies left to compare once each element has its zero; fewer may agree by chance."""
_CALLS = 6
_TRAINING_STEP = 3.5
"""A training step in units of an evaluation of the same batch: forward, forces, and back through both."""


@dataclass(frozen=True)
class Plan:
    """What a run will do. seconds: a rough estimate, by part."""

    lines: list[str]
    seconds: dict[str, float]


def check(recipe: Recipe) -> tuple[Dataset, Potential]:
    """Raise a UserError for anything wrong with recipe, data or teacher; return what was loaded."""
    check_names(recipe)
    data = check_data(recipe)
    with _at(f"{recipe.file}: teacher"):
        teacher = calculators.make(recipe.teacher, device=recipe.device, root=recipe.folder)
    task = recipe.data
    for path, frames in ((task.train, data.train), (task.valid, data.valid), (task.test, data.test)):
        if path is not None:
            check_units(path, frames, teacher)
    return data, teacher


def check_data(recipe: Recipe) -> Dataset:
    """Raise DataError or RecipeError for anything wrong with frames and starts; return what was loaded."""
    data = load_dataset(recipe.data, recipe.explore.starts, recipe.seed)
    if recipe.sample is not None:
        own = fr.read_structures(recipe.sample.starts)
        check_elements(recipe.sample.starts, own, recipe.data, data.train)
        check_apart(recipe.sample.starts, own)
    with _at(recipe.file):
        supercell(data.starts, recipe.evaluate)
    return data


def check_names(recipe: Recipe) -> None:
    """Raise RecipeError or CalculatorError for a name in the recipe that nothing has; reads no data."""
    known = registry.backend(recipe.backend).group_names
    for group in recipe.forget.groups:
        if group not in known:
            raise RecipeError(f"{recipe.file}: forget.groups: {group} is unknown.{did_you_mean(group, known)}")
    kinds = [baseline.kind for baseline in recipe.baselines]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise RecipeError(f"{recipe.file}: baselines: {kind} stands more than once; each kind may stand once.")
    with _at(f"{recipe.file}: teacher"):
        calculators.check(recipe.teacher, recipe.folder)
    if recipe.label.reference is not None:
        with _at(f"{recipe.file}: label.reference.calculator"):
            calculators.check(recipe.label.reference.calculator, recipe.folder)


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


def plan(recipe: Recipe, data: Dataset, teacher: Potential) -> Plan:
    """Return what the run will do, stage by stage, with a rough cost on this machine."""
    backend = registry.backend(recipe.backend)
    student = backend.build(recipe.student, data.e0s_eV, data.train, seed=0)
    potential = backend.potential(student, recipe.device)
    t_teacher, t_student = _seconds_per_frame(teacher, data), _seconds_per_frame(potential, data)
    walk, own = recipe.explore, recipe.sample or recipe.explore
    pool = _frames_of(walk, data)
    rounds, between = recipe.iterations, recipe.iterations - 1
    per_round = recipe.pretrain.epochs * pool
    tuned = recipe.finetune.epochs * len(data.train) / max(1e-9, 1 - recipe.finetune.replay_fraction)
    scratch = sum(b.fit.epochs * len(data.train) for b in recipe.baselines if b.kind == "scratch")
    seconds = {
        "explore (teacher MD)": t_teacher * walk.n_steps * _replicas(walk, data),
        f"pretrain x {rounds}": rounds * per_round * t_student * _TRAINING_STEP,
        f"finetune x {rounds}": rounds * tuned * t_student * _TRAINING_STEP,
        f"sample x {between} (student MD)": between * t_student * own.n_steps * _replicas(own, data),
        f"label x {between}": between * min(recipe.select.max_frames, _frames_of(own, data)) * t_teacher,
        "from-scratch baseline (at most)": scratch * t_student * _TRAINING_STEP,
    }
    if recipe.needs_committee:
        others = recipe.committee.size - 1
        seconds[f"committee x {between}"] = between * others * tuned * t_student * _TRAINING_STEP
    lines = [
        f"data      {len(data.train)} train, {len(data.valid)} valid, {len(data.test)} test frames;"
        f" {' '.join(data.e0s_eV)}; {len(data.starts)} starts",
        f"teacher   {calculators.describe(recipe.teacher)}, {t_teacher * 1e3:.1f} ms a frame",
        f"student   {potential.n_parameters} parameters, {t_student * 1e3:.1f} ms a frame in batches",
        f"explore   {_replicas(walk, data)} replicas x {walk.n_steps} steps of {walk.timestep_fs:g} fs: {pool} frames",
        _labels(recipe),
        f"loop      {rounds} iterations, forgetting {', '.join(recipe.forget.groups) or 'nothing'} between them",
    ]
    return Plan(lines, seconds)


def _labels(recipe: Recipe) -> str:
    asked = recipe.label.reference
    if asked is None:
        return f"labels    {recipe.label.policy}"
    by = calculators.describe(asked.calculator)
    return f"labels    {recipe.label.policy}; besides, {asked.budget} frames an iteration by {by} (cost unknown)"


def _replicas(walk: Explore, data: Dataset) -> int:
    return len(data.starts) * len(walk.temperatures_K) * walk.replicas


def _frames_of(walk: Explore, data: Dataset) -> int:
    return _replicas(walk, data) * (walk.n_steps // walk.frame_every)


def _seconds_per_frame(potential: Potential, data: Dataset) -> float:
    some = data.train[:10]
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        potential.compute(some)
        times.append(time.perf_counter() - start)
    return min(times) / len(some)  # the first calls pay for torch's compilation
