"""What a run will do, and roughly what it will cost on this machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ipip_ext import places
from ipip_ext.backends import registry
from ipip_ext.check import precision
from ipip_ext.check.cautions import cautions
from ipip_ext.check.costs import Costs, of_the_loop
from ipip_ext.check.costs_compared import (
    has_reference,
    models,
    of_the_comparison,
    of_unknown_pace,
    planned_walks,
    walkers,
)
from ipip_ext.check.pace import pace_of, timed
from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import Dataset
from ipip_ext.potentials.base import Potential
from ipip_ext.recipe.evaluate import Properties, Stability
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.walk import Explore
from ipip_ext.report.html import parts
from ipip_ext.run.console import duration
from ipip_ext.stages.properties import as_nve
from ipip_ext.stages.speed_cells import sizes, start_of, supercell
from ipip_ext.teachers import entries

_ALONE = ("speed",)
"""Kinds of stages beside which nothing else is computed."""

_BESIDE = (
    "scratch", "tune_foundation", "tune_natively", "evaluate", "committee", "calibration", "stability", "properties",
)  # fmt: skip
"""Kinds of stages for which the loop does not wait."""


@dataclass(frozen=True)
class Plan:
    """What a run will do, a line a step.

    seconds: a rough estimate for each kind of stage, whose name its key begins with, on this machine's `device` with
    nothing else at work there; NaN where nobody knows. cautions: what is no error, and yet worth a word before a run.
    workers: how many stages that need nothing of each other are computed at once.
    """

    lines: list[str]
    seconds: dict[str, float]
    device: str = ""
    cautions: Sequence[str] = ()
    workers: int = 1

    @property
    def total_s(self) -> float:
        """Seconds until the run ends, without what nobody knows: no less than what can only follow each other takes."""
        known = {part: seconds for part, seconds in self.seconds.items() if not math.isnan(seconds)}
        alone = sum(seconds for part, seconds in known.items() if _kind(part) in _ALONE)
        beside = [seconds for part, seconds in known.items() if _kind(part) in _BESIDE]
        whole = sum(known.values()) - alone
        return alone + max(whole / self.workers, whole - sum(beside), *beside, 0.0)

    def __str__(self) -> str:
        width = max([34, *map(len, self.seconds)])
        costs = [f"  {part:{width}s} {said:>9s}" for part, said in self._costs()]
        return "\n".join([*self.lines, "", f"{self._title}:", *costs])

    def _repr_html_(self) -> str:
        costs = parts.table([(self._title, "time"), *self._costs()])
        doubts = (parts.element("div", parts.text(caution), class_="warning") for caution in self.cautions)
        return parts.join(*doubts, parts.preformatted("\n".join(self.lines)), costs)

    @property
    def _title(self) -> str:
        at_once = f", {self.workers} processes" if self.workers > 1 else ""
        return f"rough cost on this machine ({self.device}{at_once})"

    def _costs(self) -> list[tuple[str, str]]:
        told = [(part, "unknown" if math.isnan(s) else duration(s)) for part, s in self.seconds.items()]
        return [*told, ("all", duration(self.total_s))]


def plan(recipe: Recipe, data: Dataset, teacher: Potential) -> Plan:
    """Return what the run will do, stage by stage, with a rough cost on this machine."""
    backend = registry.backend(recipe.backend)
    student, build_s = timed(lambda: backend.build(recipe.student, data.e0s_eV, data.train, seed=0), recipe.device)
    potential = backend.potential(student, recipe.device)
    slow, fast = (pace_of(one, data.train, recipe.device) for one in (teacher, potential))
    costs = Costs(recipe, data, slow, fast, build_s)
    t_teacher, t_student = (costs.labels(pace, data.train) / len(data.train) for pace in (slow, fast))
    walk, pool = recipe.explore, round(costs.pool(0))
    lines = [
        f"data      {len(data.train)} train, {len(data.valid)} valid, {len(data.test)} test frames;"
        f" {' '.join(data.e0s_eV)}; {len(data.starts)} starts",
        f"teacher   {entries.describe(recipe.teacher)}, {t_teacher * 1e3:.1f} ms a frame{_adapted(recipe)}",
        f"student   {potential.n_parameters} parameters, {t_student * 1e3:.1f} ms a frame in batches",
        f"explore   {_replicas(walk, data)} replicas x {walk.n_steps} steps of {walk.timestep_fs:g} fs: {pool} frames",
        _labels(recipe),
        f"loop      {recipe.iterations} iterations, forgetting {_forgotten(recipe)} between them",
    ]
    lines.append(_speed(recipe, data))
    if recipe.evaluate.stability is not None:
        lines.append(_stability(recipe, recipe.evaluate.stability))
    if recipe.evaluate.properties is not None:
        lines.append(_properties(recipe, recipe.evaluate.properties))
    lines += [f"{of:9s} {said}" for of, said in data.told.items()]
    lines += precision.told(recipe, data)
    seconds = {**of_the_loop(costs), **of_the_comparison(costs)}
    found = [*cautions(recipe, data), *data.findings]
    return Plan(lines, seconds, recipe.device, found, places.at_once(recipe))


def _speed(recipe: Recipe, data: Dataset) -> str:
    """Return what is timed."""
    start = start_of(data.starts, recipe.evaluate)
    counts = [math.prod(repeats) * len(start) for repeats in sizes(start, recipe.evaluate)]
    main = supercell(data.starts, recipe.evaluate)
    more = f", and cells of {_listed([n for n in counts if n != len(main)])} atoms" if len(counts) > 1 else ""
    others = _others(recipe, models(recipe))
    return f"speed     NVE step of {main.get_chemical_formula()} ({len(main)} atoms){more}{others}"


def _listed(counts: Sequence[int]) -> str:
    return " and ".join(map(str, counts))


def _stability(recipe: Recipe, wanted: Stability) -> str:
    walks, walking = planned_walks(recipe, wanted), len(walkers(recipe, wanted))
    others = _others(recipe, [name for name in models(recipe) if wanted.models is None or name in wanted.models])
    return f"stability {walks} MD runs of {wanted.time_ps:g} ps for each of {walking} models{others}"


def _properties(recipe: Recipe, wanted: Properties) -> str:
    walk = as_nve(wanted, recipe.explore.starts, recipe.explore.max_batch_replicas)
    walks = 1 if wanted.trajectory is not None else len(fr.read_structures(walk.starts))
    others = of_unknown_pace(models(recipe), recipe)
    walking = len(models(recipe)) - len(others) + has_reference(wanted)
    said = f"properties {walks} NVE walks of {wanted.time_ps:g} ps for each of {walking} models"
    return said + _others(recipe, models(recipe))


def _others(recipe: Recipe, names: Iterable[str]) -> str:
    """Return in words which of the models are neither as fast as the student nor as the teacher."""
    others = of_unknown_pace(names, recipe)
    return f"; besides, of {', '.join(others)} (cost unknown)" if others else ""


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


def _replicas(walk: Explore, data: Dataset) -> int:
    return len(data.starts) * len(walk.temperatures_K) * walk.replicas


def _kind(part: str) -> str:
    return part.split(" ", maxsplit=1)[0]
