"""IPIP on MACE: small, fast interatomic potentials from a foundation model and a few labels.

    recipe = load_recipe("recipe.yaml", finetune__lr=0.002)  # or Recipe(...) from keywords alone
    check(recipe)                                            # -> Plan: what it will do and cost
    run(recipe)                                              # -> Run: .table(), .model, .calculator(), .report ...
    open_run("runs/my-system")                               # the same later
    evaluate, simulate, compare, ablate                      # models and runs measured, walked with, side by side

`docs/api.md` shows them at work; errors are those of `ipip_ext.errors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ipip_ext import errors

# Four functions have the names of rooms. A room becomes an attribute of its package once, when it is first imported: so
# these four, a docstring each, are imported now and give their names up (`from ipip_ext.run import ...` finds them).
for _room in ("check", "compare", "run", "simulate"):
    import_module(f"ipip_ext.{_room}")
    del globals()[_room]

if TYPE_CHECKING:
    from ipip_ext.api.comparisons import compare
    from ipip_ext.api.grids import Ablation, ablate
    from ipip_ext.api.models import evaluate
    from ipip_ext.api.plans import check
    from ipip_ext.api.recipes import load_recipe, recipe_reference, recipe_schema, write_starter
    from ipip_ext.api.running import run
    from ipip_ext.api.runs import Run, open_run
    from ipip_ext.api.stores import Tracked, open_ui, track
    from ipip_ext.api.walks import Simulation, simulate
    from ipip_ext.check.planning import Plan
    from ipip_ext.check.status import Status
    from ipip_ext.compare.runs import Comparison
    from ipip_ext.recipe.recipe import Recipe
    from ipip_ext.teachers.load import load_calculator, load_potential, load_structures

_HOMES = {
    "ipip_ext.api.comparisons": ("compare",),
    "ipip_ext.api.grids": ("Ablation", "ablate"),
    "ipip_ext.api.models": ("evaluate",),
    "ipip_ext.api.plans": ("check",),
    "ipip_ext.api.recipes": ("load_recipe", "recipe_reference", "recipe_schema", "write_starter"),
    "ipip_ext.api.running": ("run",),
    "ipip_ext.api.runs": ("Run", "open_run"),
    "ipip_ext.api.stores": ("Tracked", "open_ui", "track"),
    "ipip_ext.api.walks": ("Simulation", "simulate"),
    "ipip_ext.check.planning": ("Plan",),
    "ipip_ext.check.status": ("Status",),
    "ipip_ext.compare.runs": ("Comparison",),
    "ipip_ext.recipe.recipe": ("Recipe",),
    "ipip_ext.teachers.load": ("load_calculator", "load_potential", "load_structures"),
}
"""Module -> what of it is found here; imported when it is first asked for, since torch and mace take seconds."""

__version__ = "0.1.0"
__all__ = [
    "Ablation",
    "Comparison",
    "Plan",
    "Recipe",
    "Run",
    "Simulation",
    "Status",
    "Tracked",
    "__version__",
    "ablate",
    "check",
    "compare",
    "errors",
    "evaluate",
    "load_calculator",
    "load_potential",
    "load_recipe",
    "load_structures",
    "open_run",
    "open_ui",
    "recipe_reference",
    "recipe_schema",
    "run",
    "simulate",
    "track",
    "write_starter",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(home), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
