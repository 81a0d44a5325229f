"""What can be known before anything is computed: is all in order, and what will it cost."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ipip_ext import calculators
from ipip_ext import frames as fr
from ipip_ext.backends import registry
from ipip_ext.dataset import Dataset, load_dataset
from ipip_ext.errors import DataError, RecipeError, did_you_mean
from ipip_ext.potential import Potential
from ipip_ext.recipe import Explore, Recipe
from ipip_ext.stages.speed import supercell

_PROBES = 12
_TRAINING_STEP = 3.5
"""A training step in units of an evaluation of the same batch: forward, forces, and back through both."""


@dataclass(frozen=True)
class Plan:
    """What a run will do. seconds: a rough estimate, by part."""

    lines: list[str]
    seconds: dict[str, float]


def check(recipe: Recipe) -> tuple[Dataset, Potential]:
    """Raise a UserError for anything wrong with recipe, data or teacher; return what was loaded."""
    backend = registry.backend(recipe.backend)
    for group in recipe.forget.groups:
        if group not in backend.group_names:
            raise RecipeError(f"forget.groups: {group} is unknown.{did_you_mean(group, backend.group_names)}")
    kinds = [baseline.kind for baseline in recipe.baselines]
    if len(kinds) != len(set(kinds)):
        raise RecipeError("baselines: each kind may stand once.")
    calculators.check(recipe.teacher, recipe.folder)
    data = load_dataset(recipe.data, recipe.explore.starts, recipe.seed)
    if recipe.sample is not None:
        fr.read_structures(recipe.sample.starts)
    supercell(data.starts, recipe.evaluate)
    teacher = calculators.make(recipe.teacher, device=recipe.device, root=recipe.folder)
    check_units(recipe, data, teacher)
    return data, teacher


def check_units(recipe: Recipe, data: Dataset, teacher: Potential) -> None:
    """Raise DataError if labels are a constant times what the teacher says, far from 1.

    A teacher may be wrong by half, not by the 23 of kcal/mol or the 0.02 of hartree/bohr.
    """
    some = data.train[:: max(1, len(data.train) // _PROBES)][:_PROBES]
    predicted = np.concatenate([p.forces_eV_per_A.ravel() for p in teacher.compute(some)])
    wanted = np.concatenate([frame.arrays[fr.FORCES].ravel() for frame in some])
    if np.std(predicted) < 1e-6 or np.std(wanted) < 1e-6:
        return
    agree = float(np.corrcoef(predicted, wanted)[0, 1])
    slope = float(predicted @ wanted / (predicted @ predicted))
    if agree > 0.6 and not 1 / 6 < slope < 6:
        raise DataError(
            f"{recipe.data.train}: forces are {slope:.3g} times what {calculators.describe(recipe.teacher)} gives;"
            " that looks like another unit (kcal/mol/A: 23, hartree/bohr: 0.019). Convert them to eV/A."
        )


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
    lines = [
        f"data      {len(data.train)} train, {len(data.valid)} valid, {len(data.test)} test frames;"
        f" {' '.join(data.e0s_eV)}; {len(data.starts)} starts",
        f"teacher   {calculators.describe(recipe.teacher)}, {t_teacher * 1e3:.1f} ms a frame",
        f"student   {potential.n_parameters} parameters, {t_student * 1e3:.1f} ms a frame in batches",
        f"explore   {_replicas(walk, data)} replicas x {walk.n_steps} steps of {walk.timestep_fs:g} fs: {pool} frames",
        f"loop      {rounds} iterations, forgetting {', '.join(recipe.forget.groups) or 'nothing'} between them",
    ]
    return Plan(lines, seconds)


def _replicas(walk: Explore, data: Dataset) -> int:
    return len(data.starts) * len(walk.temperatures_K) * walk.replicas


def _frames_of(walk: Explore, data: Dataset) -> int:
    return _replicas(walk, data) * (walk.n_steps // walk.frame_every)


def _seconds_per_frame(potential: Potential, data: Dataset) -> float:
    some = data.train[:10]
    potential.compute(some)  # the first call pays for compilation
    start = time.perf_counter()
    potential.compute(some)
    return (time.perf_counter() - start) / len(some)
