"""Roughly how long the stages of the loop take on this machine, by what a call of teacher and student costs there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ipip_ext.check.pace import Pace
from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import Dataset
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.training import Fit
from ipip_ext.recipe.walk import Explore

UNKNOWN = math.nan

_TRAINING_STEP = 3.5
"""A training step in units of an evaluation of the same batch: forward, forces, and back through both."""

_AT_ONCE = 32
"""Frames that are labelled together."""

_MOST_FITTED, _FIT_S = 500, 1.0
"""Training frames to which a correction is fitted, and what that takes besides their labels."""

_PREPARE_S = 0.5


@dataclass(frozen=True)
class Costs:
    """What a run's costs follow from. build_s: of making or loading a student, as every stage does that has one."""

    recipe: Recipe
    data: Dataset
    teacher: Pace
    student: Pace
    build_s: float

    @property
    def between(self) -> int:
        """How often something comes between two iterations."""
        return self.recipe.iterations - 1

    @property
    def unforgotten(self) -> int:
        """Iterations that the baseline without forgetting adds."""
        return self.between * any(baseline.kind == "no_forget" for baseline in self.recipe.baselines)

    def walk(self, pace: Pace, walk: Explore, starts: Sequence[Atoms]) -> float:
        """Return the seconds of MD from `starts`."""
        replicas = len(starts) * len(walk.temperatures_K) * walk.replicas
        at_once = walk.max_batch_replicas if walk.ensemble in ("nvt_langevin", "nve") else 1
        return max(1, walk.n_steps) * pace.of(replicas, _atoms(starts), at_once)

    def labels(self, pace: Pace, frames: Sequence[Atoms], batch: int = _AT_ONCE) -> float:
        """Return the seconds of labels for `frames`."""
        return pace.of(len(frames), _atoms(frames), batch)

    def training(
        self, pace: Pace, fit: Fit, n_train: float, n_valid: float, atoms: float, replayed: float = 0
    ) -> float:
        """Return the seconds of a training that runs to its end. atoms: of a frame. replayed: share of a batch."""
        steps = math.ceil(n_train / (fit.batch_size * (1 - replayed)))
        epochs = fit.most_epochs(steps)
        validations = epochs / fit.validate_every
        step = _TRAINING_STEP * pace.of(fit.batch_size, atoms, fit.batch_size)
        last = n_train / (1 - replayed) / fit.batch_size / steps  # the last batch of an epoch is a smaller one
        return epochs * steps * step * last + validations * pace.of(n_valid, atoms, fit.batch_size)

    @property
    def finetuning(self) -> float:
        """Seconds of a training on the task's labels."""
        fit, data = self.recipe.finetune, self.data
        once = self.training(
            self.student, fit, len(data.train), len(data.valid), _atoms(data.train), fit.replay_fraction
        )
        return once + 2 * self.build_s

    def pretraining(self, iteration: int) -> float:
        """Return the seconds of a training on the pool of an iteration."""
        fit, pool = self.recipe.pretrain, self.pool(iteration)
        held = fit.valid_fraction * pool
        return self.training(self.student, fit, pool - held, held, self.atoms_at_starts) + self.build_s

    def pool(self, iteration: int) -> float:
        """Return how many frames the pool of an iteration has if no walk is stopped."""
        n_frames = float(_frames_of(self.recipe.explore, self.data.starts))
        for _ in range(iteration):
            n_frames = self.recipe.label.retain * n_frames + self.n_new
        return n_frames

    @property
    def n_new(self) -> int:
        """New frames of an iteration."""
        walk = self.recipe.sample or self.recipe.explore
        return min(self.recipe.select.max_frames, _frames_of(walk, fr.read_structures(walk.starts)))

    @property
    def atoms_at_starts(self) -> float:
        """Atoms of a frame that MD finds."""
        return _atoms(self.data.starts)


def of_the_loop(costs: Costs) -> dict[str, float]:
    """Return seconds by stage, whose name each key begins with, of what makes students; NaN where nobody knows."""
    return {**_before(costs), **_iterations(costs), **_between(costs), **_committee(costs), **_trained_beside(costs)}


def _before(costs: Costs) -> dict[str, float]:
    recipe, train = costs.recipe, costs.data.train
    times = 1 + costs.between * (recipe.label.reference is not None)  # mended anew with the labels that were bought
    found = {
        "prepare": _PREPARE_S,
        "explore (teacher MD)": costs.walk(costs.teacher, recipe.explore, costs.data.starts),
    }
    if recipe.adapt is not None:
        fit = costs.training(costs.teacher, recipe.adapt, len(train), len(costs.data.valid), _atoms(train))
        pool = costs.teacher.of(costs.pool(0), costs.atoms_at_starts, _AT_ONCE)
        found[f"adapt x {times} (the teacher)"] = times * fit + pool
    if recipe.corrects:
        found[f"correct x {times}"] = times * (costs.labels(costs.teacher, train[:_MOST_FITTED]) + _FIT_S)
    return found


def _iterations(costs: Costs) -> dict[str, float]:
    numbers = [*range(costs.recipe.iterations), *range(1, 1 + costs.unforgotten)]
    return {
        f"pretrain x {len(numbers)}": sum(map(costs.pretraining, numbers)),
        f"finetune x {len(numbers)}": len(numbers) * costs.finetuning,
    }


def _between(costs: Costs) -> dict[str, float]:
    times = costs.between + max(0, costs.unforgotten - 1)
    found = {}
    if times:
        walk = costs.recipe.sample or costs.recipe.explore
        starts = fr.read_structures(walk.starts)
        seen = _frames_of(walk, starts) + costs.pool(0)
        labeller = costs.student if costs.recipe.label.policy in ("self", "committee") else costs.teacher
        each = {
            f"sample x {times} (student MD)": costs.walk(costs.student, walk, starts),
            f"select x {times}": costs.student.of(seen, costs.atoms_at_starts, _AT_ONCE),
            f"label x {times}": labeller.of(costs.n_new, costs.atoms_at_starts, _AT_ONCE),
        }
        found = {part: times * (seconds + costs.build_s) for part, seconds in each.items()}
        found[f"forget x {costs.between}"] = 2 * costs.between * costs.build_s
    return {**found, "model": 2 * costs.build_s}


def _committee(costs: Costs) -> dict[str, float]:
    recipe, asked = costs.recipe, costs.recipe.label.reference
    times = costs.recipe.needs_committee * (costs.between + max(0, costs.unforgotten - 1)) + recipe.committee.export
    size = recipe.committee.size
    found = {}
    if times:
        found[f"committee x {times}"] = times * (size - 1) * costs.finetuning
        found["calibration"] = size * (costs.labels(costs.student, costs.data.test) + costs.build_s)
    if asked is not None:
        found[f"ask x {costs.between} ({asked.budget} labels each)"] = UNKNOWN
    return found


def _trained_beside(costs: Costs) -> dict[str, float]:
    found, data = {}, costs.data
    for baseline in costs.recipe.baselines:
        if baseline.kind == "scratch":
            found["scratch (from-scratch baseline, at most)"] = costs.build_s + costs.training(
                costs.student, baseline.fit, len(data.train), len(data.valid), _atoms(data.train)
            )
        if baseline.kind == "finetuned":
            stage = "tune_foundation" if baseline.method == "naive" else "tune_natively"
            found[f"{stage} ({baseline.name})"] = UNKNOWN
    return found


def _frames_of(walk: Explore, starts: Sequence[Atoms]) -> int:
    return len(starts) * len(walk.temperatures_K) * walk.replicas * walk.frames_per_replica


def _atoms(frames: Sequence[Atoms]) -> float:
    return float(np.mean([len(frame) for frame in frames])) if frames else 0.0
