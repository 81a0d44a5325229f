"""speed: seconds per MD step and peak memory of every model, in turn, on the same supercells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext import md
from ipip_ext.data import frames as fr
from ipip_ext.data.tables import write_csv
from ipip_ext.recipe.evaluate import Evaluate
from ipip_ext.run.stage import Context
from ipip_ext.stages import memory
from ipip_ext.stages.evaluate import potential_of
from ipip_ext.stages.inputs import Model
from ipip_ext.stages.speed_cells import main_size, sizes, start_of

WARM_UP = 4


def speed(ctx: Context, settings: Evaluate, *, models: Mapping[str, Model], starts: Path) -> dict[str, Any]:
    """Time NVE steps of each model on each size, one step of each model in turn, so that a noisy machine is noisy
    for all.

    Plain ASE MD with the calculator that a user of the model would take; the median is kept. Memory is the growth of
    what torch holds on a GPU, or of a fresh process on a CPU.
    """
    start = start_of(fr.read_structures(starts), settings)
    cells = {repeats: start.repeat(repeats) for repeats in sizes(start, settings)}
    calculators = {name: potential_of(model, ctx).calculator() for name, model in models.items()}
    rows: list[dict[str, Any]] = []
    for number, (repeats, cell) in enumerate(cells.items()):
        times = _times(ctx, settings, calculators, cell, (number / len(cells), 1 / len(cells)))
        rows += [
            {
                "model": name,
                "supercell": "x".join(map(str, repeats)),
                "n_atoms": len(cell),
                "md_step_ms": round(median_ms, 4),
            }
            for name, median_ms in times.items()
        ]
    memories = _memories(ctx, settings, models, calculators, list(cells.values()))
    for row in rows:
        row["peak_memory_MiB"] = memories.get(row["model"], {}).get(row["n_atoms"])
    write_csv(ctx.folder / "speed.csv", rows)
    main = cells[main_size(start, settings)]
    here = {row["model"]: row for row in rows if row["n_atoms"] == len(main)}
    return {
        "sizes": ctx.folder / "speed.csv",
        "md_step_ms": {name: row["md_step_ms"] for name, row in here.items()},
        "peak_memory_MiB": {name: row["peak_memory_MiB"] for name, row in here.items()},
        "n_atoms": len(main),
        "formula": main.get_chemical_formula(),
        "rows": rows,
    }


def _times(
    ctx: Context, settings: Evaluate, calculators: Mapping[str, Any], cell: Atoms, share: tuple[float, float]
) -> dict[str, float]:
    """Return the median time of a step, ms. share: of this stage's progress, done before and to do."""
    movers = {}
    for name, calculator in calculators.items():
        atoms = cell.copy()
        atoms.calc = calculator
        movers[name] = md.stepper(atoms)
    times: dict[str, list[float]] = {name: [] for name in movers}
    n_steps = WARM_UP + settings.speed_steps
    for step in range(n_steps):
        for name, move in movers.items():
            start = time.perf_counter()
            move()
            times[name].append(time.perf_counter() - start)
        ctx.progress(share[0] + share[1] * (step + 1) / n_steps, f"{len(cell)} atoms, timing step {step + 1}")
    return {name: float(np.median(values[WARM_UP:]) * 1e3) for name, values in times.items()}


def _memories(
    ctx: Context, settings: Evaluate, models: Mapping[str, Model], calculators: Mapping[str, Any], cells: list[Atoms]
) -> dict[str, dict[int, float]]:
    """Return peak memory in MiB by model and number of atoms; a model is missing where it could not be measured."""
    is_gpu = ctx.device.startswith("cuda")
    found: dict[str, dict[int, float]] = {}
    for name, model in models.items():
        if not (is_gpu or settings.speed_memory):
            continue
        if memory.is_elsewhere(model):
            ctx.note(f"{name}: computes in another process, whose memory is not measured")
            continue
        ctx.progress(1.0, f"memory of {name}")
        found[name] = (
            memory.on_gpu(calculators[name], cells, ctx.device) if is_gpu else memory.on_cpu(model, cells, ctx.home)
        )
    return found
