"""speed: seconds per MD step of every model, in turn, on the same supercell in one process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext import frames as fr
from ipip_ext import md
from ipip_ext.errors import RecipeError
from ipip_ext.recipe import Evaluate
from ipip_ext.stages.evaluate import potential_of
from ipip_ext.workspace import Context

_WARM_UP = 4


def speed(ctx: Context, settings: Evaluate, *, models: Mapping[str, Any], starts: Path) -> dict[str, Any]:
    """Time NVE steps of each model, one step of each in turn, so that a noisy machine is noisy for all.

    Plain ASE MD with the calculator that a user of the model would take; the median is kept.
    """
    atoms = supercell(fr.read_structures(starts), settings)
    movers = {}
    for name, model in models.items():
        cell = atoms.copy()
        cell.calc = potential_of(model, ctx).calculator()
        movers[name] = md.stepper(cell)
    times: dict[str, list[float]] = {name: [] for name in movers}
    for step in range(_WARM_UP + settings.speed_steps):
        for name, move in movers.items():
            start = time.perf_counter()
            move()
            times[name].append(time.perf_counter() - start)
        ctx.progress((step + 1) / (_WARM_UP + settings.speed_steps), f"timing step {step + 1}")
    medians = {name: float(np.median(values[_WARM_UP:]) * 1e3) for name, values in times.items()}
    return {"md_step_ms": medians, "n_atoms": len(atoms), "formula": atoms.get_chemical_formula()}


def supercell(starts: list[Atoms], settings: Evaluate) -> Atoms:
    """Return the start that the recipe names, repeated. Raises RecipeError if there is none."""
    wanted = settings.speed_start
    for index, atoms in enumerate(starts):
        if wanted in (index, atoms.info.get("name")):
            return atoms.repeat(settings.speed_supercell)
    names = [str(atoms.info.get("name", index)) for index, atoms in enumerate(starts)]
    raise RecipeError(f"evaluate.speed_start: {wanted} is no start. Known: {', '.join(names)}.")
