"""Roughly how long it takes to set all models side by side: evaluation, timing, MD, properties and the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from ipip_ext import md
from ipip_ext.check.costs import Costs
from ipip_ext.check.pace import Pace
from ipip_ext.data import frames as fr
from ipip_ext.recipe.evaluate import Properties, Stability
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.stages.properties import as_nve
from ipip_ext.stages.speed import WARM_UP
from ipip_ext.stages.speed_cells import sizes, start_of
from ipip_ext.stages.stability import as_md

_ITERATION = "iteration"
_STUDENTS = ("ipip", "scratch", "distilled", "no_forget", _ITERATION)
"""Kinds of models that are as fast as the student, itself among them."""

_TEACHERS = ("teacher", "adapted")

_REPORT_S, _REPORT_MODEL_S = 1.5, 0.4
"""Of drawing a page, and of what each model adds to it."""

_MOST_OF_POOL, _AT_ONCE = 500, 32
"""Frames of the pool that the student is asked about how far from home they are, and how many at once."""

_PROCESS_S = 8.0
"""Of a process in which the memory of a model is measured."""


def of_the_comparison(costs: Costs) -> dict[str, float]:
    """Return seconds by stage, whose name each key begins with; models whose pace nobody knows count for nothing."""
    recipe = costs.recipe
    kinds, rounds = [kind for kind in models(recipe).values() if _is_known(kind)], [_ITERATION] * recipe.iterations
    evaluated = [*kinds[1:], *rounds, *[_ITERATION] * costs.unforgotten]  # ipip is one of the iterations
    timed = [*kinds, *rounds]
    found = {
        f"evaluate x {len(evaluated)}": _summed(costs, evaluated, lambda pace, kind: _examined(costs, pace, kind)),
        f"speed x {len(timed)} (timing)": _timing(costs, timed),
    }
    if recipe.evaluate.stability is not None:
        walking = walkers(recipe, recipe.evaluate.stability)
        walk = as_md(recipe.evaluate.stability, recipe.explore.starts, recipe.explore.max_batch_replicas)
        starts = fr.read_structures(walk.starts)
        found[f"stability x {len(walking)} (MD)"] = _summed(
            costs, walking, lambda pace, _: costs.walk(pace, walk, starts)
        )
    if recipe.evaluate.properties is not None:
        found |= _properties(costs, recipe.evaluate.properties, kinds)
    found["home"] = costs.labels(costs.student, costs.data.test) + costs.build_s
    found["home"] += costs.student.of(min(_MOST_OF_POOL, costs.pool(0)), costs.atoms_at_starts, _AT_ONCE)
    return {**found, "report": _REPORT_S + _REPORT_MODEL_S * len(timed)}


def models(recipe: Recipe) -> dict[str, str]:
    """Return the kinds of all that is compared, but iterations, by name."""
    return {"ipip": "ipip"} | {baseline.name: baseline.kind for baseline in recipe.baselines}


def of_unknown_pace(names: Iterable[str], recipe: Recipe) -> list[str]:
    """Return those of the models that are neither as fast as the student nor as the teacher."""
    kinds = models(recipe)
    return [name for name in names if not _is_known(kinds[name])]


def _is_known(kind: str) -> bool:
    return kind in (*_STUDENTS, *_TEACHERS)


def walkers(recipe: Recipe, wanted: Stability) -> list[str]:
    """Return the kinds of the models whose MD's stability is measured, but of those whose pace nobody knows."""
    chosen = [kind for name, kind in models(recipe).items() if wanted.models is None or name in wanted.models]
    found = list(filter(_is_known, chosen))
    more = recipe.iterations - ("ipip" in found)  # the one that is chosen is the student
    return found + [_ITERATION] * (more * wanted.every_iteration)


def _summed(costs: Costs, kinds: Sequence[str], seconds: Callable[[Pace, str], float]) -> float:
    total = 0.0
    for kind in kinds:
        if kind in _STUDENTS:
            total += seconds(costs.student, kind) + costs.build_s
        elif kind in _TEACHERS:
            total += seconds(costs.teacher, kind)
    return total


def _examined(costs: Costs, pace: Pace, kind: str) -> float:
    frames = [costs.data.test, costs.data.train] if kind in (*_TEACHERS, "distilled") else [costs.data.test]
    return sum(costs.labels(pace, some, costs.recipe.evaluate.batch_size) for some in frames)


def _timing(costs: Costs, timed: Sequence[str]) -> float:
    settings, start = costs.recipe.evaluate, start_of(costs.data.starts, costs.recipe.evaluate)
    counts = [math.prod(repeats) * len(start) for repeats in sizes(start, settings)]
    steps = WARM_UP + settings.speed_steps
    seconds = _summed(costs, timed, lambda pace, _: steps * sum(pace.of(1, n_atoms, 1) for n_atoms in counts))
    return seconds + _PROCESS_S * len(timed) * (settings.speed_memory and costs.recipe.device == "cpu")


def _properties(costs: Costs, wanted: Properties, kinds: Sequence[str]) -> Mapping[str, float]:
    recipe = costs.recipe
    walk = as_nve(wanted, recipe.explore.starts, recipe.explore.max_batch_replicas)
    starts = fr.read_structures(walk.starts if wanted.trajectory is None else wanted.trajectory)
    some = starts if wanted.trajectory is None else starts[:1]
    walking = [*kinds, *["teacher"] * has_reference(wanted)]
    found = {f"properties x {len(walking)} (MD)": _summed(costs, walking, lambda pace, _: costs.walk(pace, walk, some))}
    return found if wanted.trajectory is None else {**found, "trajectory_properties": 1.0}


def has_reference(wanted: Properties) -> bool:
    """Whether the teacher's properties are measured once more, as those that all are compared with."""
    return wanted.trajectory is None or wanted.strained is None


def planned_walks(recipe: Recipe, wanted: Stability) -> int:
    """Return how many walks measure the stability of a model."""
    walk = as_md(wanted, recipe.explore.starts, recipe.explore.max_batch_replicas)
    return len(md.plan_replicas(fr.read_structures(walk.starts), walk, seed=0, prefix=""))
