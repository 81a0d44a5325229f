"""What a run will do, and roughly what it will cost on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ipip_ext import md
from ipip_ext.backends import registry
from ipip_ext.check import precision
from ipip_ext.check.cautions import cautions
from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import Dataset
from ipip_ext.potentials.base import Potential
from ipip_ext.recipe.evaluate import Properties, Stability
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.training import Fit
from ipip_ext.recipe.walk import Explore
from ipip_ext.report.html import parts
from ipip_ext.run.console import duration
from ipip_ext.stages.properties import as_nve
from ipip_ext.stages.speed import WARM_UP
from ipip_ext.stages.speed_cells import sizes, start_of, supercell
from ipip_ext.stages.stability import as_md
from ipip_ext.teachers import entries

_CALLS = 6
_STUDENTS = ("ipip", "scratch", "distilled", "no_forget")
"""Kinds of models that are as fast as the student, itself among them."""
_TEACHERS = ("teacher", "adapted")
_TRAINING_STEP = 3.5
"""A training step in units of an evaluation of the same batch: forward, forces, and back through both."""


@dataclass(frozen=True)
class Plan:
    """What a run will do, a line a step. seconds: a rough estimate, by part, on this machine's `device`.

    cautions: what is no error, and yet worth a word before a run.
    """

    lines: list[str]
    seconds: dict[str, float]
    device: str = ""
    cautions: Sequence[str] = ()

    def __str__(self) -> str:
        costs = [f"  {part:34s} {said:>9s}" for part, said in self._costs()]
        return "\n".join([*self.lines, "", f"{self._title}:", *costs])

    def _repr_html_(self) -> str:
        costs = parts.table([(self._title, "time"), *self._costs()])
        doubts = (parts.element("div", parts.text(caution), class_="warning") for caution in self.cautions)
        return parts.join(*doubts, parts.preformatted("\n".join(self.lines)), costs)

    @property
    def _title(self) -> str:
        return f"rough cost on this machine ({self.device})"

    def _costs(self) -> list[tuple[str, str]]:
        every = {**self.seconds, "all": sum(self.seconds.values())}
        return [(part, duration(seconds)) for part, seconds in every.items()]


def plan(recipe: Recipe, data: Dataset, teacher: Potential) -> Plan:
    """Return what the run will do, stage by stage, with a rough cost on this machine."""
    backend = registry.backend(recipe.backend)
    student = backend.build(recipe.student, data.e0s_eV, data.train, seed=0)
    potential = backend.potential(student, recipe.device)
    t_teacher, t_student = _seconds_per_frame(teacher, data), _seconds_per_frame(potential, data)
    walk, own = recipe.explore, recipe.sample or recipe.explore
    pool = _frames_of(walk, data)
    rounds, between = recipe.iterations, recipe.iterations - 1
    per_round = _frames_trained(recipe.pretrain, pool)
    tuned = _frames_trained(recipe.finetune, len(data.train), recipe.finetune.replay_fraction)
    scratch = sum(_frames_trained(b.fit, len(data.train)) for b in recipe.baselines if b.kind == "scratch")
    seconds = {}
    if recipe.adapt is not None:
        times = 1 if recipe.label.reference is None else rounds  # anew with the labels bought after each but the last
        one = _frames_trained(recipe.adapt, len(data.train)) * t_teacher * _TRAINING_STEP
        seconds[f"adapt x {times} (the teacher)"] = times * one
    seconds |= {
        "explore (teacher MD)": t_teacher * walk.n_steps * _replicas(walk, data),
        f"pretrain x {rounds}": rounds * per_round * t_student * _TRAINING_STEP,
        f"finetune x {rounds}": rounds * tuned * t_student * _TRAINING_STEP,
        f"sample x {between} (student MD)": between * t_student * own.n_steps * _replicas(own, data),
        f"label x {between}": between * min(recipe.select.max_frames, _frames_of(own, data)) * t_teacher,
        "from-scratch baseline (at most)": scratch * t_student * _TRAINING_STEP,
    }
    if any(baseline.kind == "no_forget" for baseline in recipe.baselines):
        training = (per_round + tuned) * t_student * _TRAINING_STEP
        walking = own.n_steps * _replicas(own, data) * t_student
        labelling = min(recipe.select.max_frames, _frames_of(own, data)) * t_teacher
        seconds["no_forget baseline"] = between * training + (between - 1) * (walking + labelling)
    if recipe.needs_committee:
        others = recipe.committee.size - 1
        seconds[f"committee x {between}"] = between * others * tuned * t_student * _TRAINING_STEP
    lines = [
        f"data      {len(data.train)} train, {len(data.valid)} valid, {len(data.test)} test frames;"
        f" {' '.join(data.e0s_eV)}; {len(data.starts)} starts",
        f"teacher   {entries.describe(recipe.teacher)}, {t_teacher * 1e3:.1f} ms a frame{_adapted(recipe)}",
        f"student   {potential.n_parameters} parameters, {t_student * 1e3:.1f} ms a frame in batches",
        f"explore   {_replicas(walk, data)} replicas x {walk.n_steps} steps of {walk.timestep_fs:g} fs: {pool} frames",
        _labels(recipe),
        f"loop      {rounds} iterations, forgetting {_forgotten(recipe)} between them",
    ]
    timed = _speed(recipe, data, t_teacher, t_student)
    lines, seconds = lines + timed.lines, seconds | timed.seconds
    if recipe.evaluate.stability is not None:
        walks = _stability(recipe, recipe.evaluate.stability, t_teacher, t_student)
        lines, seconds = lines + walks.lines, seconds | walks.seconds
    if recipe.evaluate.properties is not None:
        walks = _properties(recipe, recipe.evaluate.properties, t_teacher, t_student)
        lines, seconds = lines + walks.lines, seconds | walks.seconds
    lines += [f"{of:9s} {said}" for of, said in data.told.items()]
    lines += precision.told(recipe, data)
    return Plan(lines, seconds, recipe.device, [*cautions(recipe, data), *data.findings])


def _speed(recipe: Recipe, data: Dataset, t_teacher: float, t_student: float) -> Plan:
    """Return what is timed; costs of a frame are those of one of average size, and grow with the atoms."""
    start = start_of(data.starts, recipe.evaluate)
    counts = [math.prod(repeats) * len(start) for repeats in sizes(start, recipe.evaluate)]
    main = supercell(data.starts, recipe.evaluate)
    n_students, n_teachers, others = _contenders(recipe)
    n_students += recipe.iterations
    steps = sum(counts) / np.mean([len(frame) for frame in data.train]) * (WARM_UP + recipe.evaluate.speed_steps)
    seconds = float(steps * (n_students * t_student + n_teachers * t_teacher))
    more = f", and cells of {_listed([n for n in counts if n != len(main)])} atoms" if len(counts) > 1 else ""
    told = f"speed     NVE step of {main.get_chemical_formula()} ({len(main)} atoms){more}{others}"
    return Plan([told], {f"speed x {n_students + n_teachers} (timing)": seconds})


def _listed(counts: Sequence[int]) -> str:
    return " and ".join(map(str, counts))


def _stability(recipe: Recipe, wanted: Stability, t_teacher: float, t_student: float) -> Plan:
    walk = as_md(wanted, recipe.explore.starts, recipe.explore.max_batch_replicas)
    walks = len(md.plan_replicas(fr.read_structures(walk.starts), walk, seed=0, prefix=""))
    n_students, n_teachers, others = _contenders(recipe, wanted.models)
    if wanted.every_iteration:
        n_students += recipe.iterations - (wanted.models is None or "ipip" in wanted.models)
    models = n_students + n_teachers
    seconds = walks * walk.n_steps * (n_students * t_student + n_teachers * t_teacher)
    told = f"stability {walks} MD runs of {wanted.time_ps:g} ps for each of {models} models{others}"
    return Plan([told], {f"stability x {models} (MD)": seconds})


def _properties(recipe: Recipe, wanted: Properties, t_teacher: float, t_student: float) -> Plan:
    walk = as_nve(wanted, recipe.explore.starts, recipe.explore.max_batch_replicas)
    walks = 1 if wanted.trajectory is not None else len(fr.read_structures(walk.starts))
    n_students, n_teachers, others = _contenders(recipe)
    n_teachers += wanted.trajectory is None or wanted.strained is None  # as the reference
    models = n_students + n_teachers
    seconds = walks * walk.n_steps * (n_students * t_student + n_teachers * t_teacher)
    told = f"properties {walks} NVE walks of {wanted.time_ps:g} ps for each of {models} models{others}"
    return Plan([told], {f"properties x {models} (MD)": seconds})


def _contenders(recipe: Recipe, only: Sequence[str] | None = None) -> tuple[int, int, str]:
    """Return how many models are as fast as the student and as the teacher, and in words which are neither.

    only: names of the models that count; None: all.
    """
    models = {"ipip": "ipip"} | {baseline.name: baseline.kind for baseline in recipe.baselines}
    counted = {name: kind for name, kind in models.items() if only is None or name in only}
    others = [name for name, kind in counted.items() if kind not in (*_STUDENTS, *_TEACHERS)]
    said = f"; besides, of {', '.join(others)} (cost unknown)" if others else ""
    kinds = list(counted.values())
    return sum(kind in _STUDENTS for kind in kinds), sum(kind in _TEACHERS for kind in kinds), said


def _forgotten(recipe: Recipe) -> str:
    """Return what is forgotten; where it changes, all that comes up, in order."""
    said = (", ".join(recipe.forget.at(i).groups) or "nothing" for i in range(recipe.iterations - 1))
    return " or ".join(dict.fromkeys(said)) or "nothing"


def _adapted(recipe: Recipe) -> str:
    return "" if recipe.adapt is None else f"; fine-tuned first, {recipe.adapt.epochs} epochs"


def _labels(recipe: Recipe) -> str:
    asked = recipe.label.reference
    if asked is None:
        return f"labels    {recipe.label.policy}"
    by = entries.describe(asked.calculator)
    return f"labels    {recipe.label.policy}; besides, {asked.budget} frames an iteration by {by} (cost unknown)"


def _frames_trained(fit: Fit, n_train: int, replayed: float = 0.0) -> float:
    """Return how many frames a training takes in, replayed ones too, if it runs to the end."""
    fresh_per_step = fit.batch_size * (1 - replayed)
    return fit.most_epochs(math.ceil(n_train / fresh_per_step)) * n_train / (1 - replayed)


def _replicas(walk: Explore, data: Dataset) -> int:
    return len(data.starts) * len(walk.temperatures_K) * walk.replicas


def _frames_of(walk: Explore, data: Dataset) -> int:
    return _replicas(walk, data) * walk.frames_per_replica


def _seconds_per_frame(potential: Potential, data: Dataset) -> float:
    some = data.train[:10]
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        potential.compute(some)
        times.append(time.perf_counter() - start)
    return min(times) / len(some)  # the first calls pay for torch's compilation
