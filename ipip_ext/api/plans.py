"""What a recipe will do and cost, before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ipip_ext import places
from ipip_ext.admission import on_this_machine
from ipip_ext.api.recipes import admitted
from ipip_ext.api.said import log
from ipip_ext.check import planning, preflight
from ipip_ext.check.planning import Plan
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import state, telling
from ipip_ext.run.bar import shown
from ipip_ext.run.events import Event, Sink


def check(recipe: Recipe | str | Path, *, progress: bool | Sink = True, trust_models: bool = False) -> Plan:
    """Validate a recipe and its data without running; return what a run will do, with a rough cost. Writes nothing.

    progress: as of `run`. trust_models: let a recipe of another user load pickled models and run Python code.
    Doubts that are no errors are told, and stand in the plan's `cautions`.
    Raises UserError for anything that is not in order.
    """
    recipe = admitted(recipe, trusted=trust_models)
    with state.kept(), shown(progress, recipe.name) as show, telling.to(show):
        recipe = on_this_machine(recipe)
        data, teacher = preflight.check(recipe)
        plan = planning.plan(recipe, data, teacher)
        proved = places.prove(recipe, Path.cwd(), lambda said: show(Event("note", said)) if show else None)
    for caution in plan.cautions:
        log.warning("warning: %s", caution)
    return replace(plan, lines=[*plan.lines, *proved])
