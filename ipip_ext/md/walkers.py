"""Walkers: replicas on their way, each with all of its state, so that a batch can take one in or let one go."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ipip_ext.md.kept import Kept, flat, unflat
from ipip_ext.md.replicas import Replica, initial_momenta
from ipip_ext.potentials.base import Array
from ipip_ext.recipe.walk import Explore
from ipip_ext.run.seeds import derive


@dataclass
class Walker:
    """A replica on its way.

    number: of the replica in the plan. positions A, momenta (ASE units), forces eV/A: (n_atoms, 3). cell A,
    stress eV/A^3: (3, 3); stress is None where the cell stands still. barostat: momentum and force of the volume.
    attempt: how often it has begun again. recent: what was last found sane, the oldest first.
    While a stack moves it, the stack has the newer arrays (`Stack.part`).
    """

    number: int
    replica: Replica
    generator: np.random.Generator
    positions: Array
    momenta: Array
    forces: Array
    cell: Array
    energy_eV: float = float("nan")
    reference_energy_eV: float = float("nan")
    stress: Array | None = None
    barostat: tuple[float, float] | None = None
    md_step: int = 0
    attempt: int = 0
    recent: deque[Kept] = field(default_factory=deque)


def begin(number: int, replica: Replica, settings: Explore) -> Walker:
    """Return a walker at its start, with velocities and still without forces."""
    generator = new_generator(replica.seed)
    start = replica.start
    momenta = initial_momenta(start, replica.temperature_K * settings.initial_temperature_factor, generator)
    most = max(settings.guard.keep_before, min(settings.guard.restarts, 1))
    return Walker(
        number, replica, generator, start.positions.copy(), momenta, np.zeros_like(momenta), start.cell.array.copy(),
        recent=deque(maxlen=most),
    )  # fmt: skip


def again(walker: Walker, settings: Explore) -> Walker:
    """Return the walker where it was last found sane, with a new seed and new velocities of the thermostat's."""
    sane, replica, attempt = walker.recent[-1], walker.replica, walker.attempt + 1
    generator = new_generator(derive(replica.seed, "restart", attempt))
    temperature_K = replica.target_temperature(sane.md_step, settings.n_steps)
    if sane.md_step == 0:  # still at its minimum, as `begin` has it
        temperature_K *= settings.initial_temperature_factor
    return Walker(
        walker.number, replica, generator, sane.positions, initial_momenta(replica.start, temperature_K, generator),
        sane.forces, sane.cell, sane.energy_eV, walker.reference_energy_eV, sane.stress,
        md_step=sane.md_step, attempt=attempt, recent=walker.recent,
    )  # fmt: skip


_ROWS, _MATRICES = ("positions", "momenta", "forces"), ("cell", "stress")
_TOLD = ("number", "energy_eV", "reference_energy_eV", "barostat", "md_step", "attempt")


def pack(walkers: Sequence[Walker]) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Return walkers as JSON data and arrays."""
    if not walkers:
        return [], {}
    told = [
        {name: getattr(w, name) for name in _TOLD}
        | {"rng": generator_state(w.generator), "recent": len(w.recent), "keeps": w.recent.maxlen}
        for w in walkers
    ]
    arrays = {name: np.concatenate([getattr(w, name) for w in walkers]) for name in _ROWS}
    for name in _MATRICES:
        if getattr(walkers[0], name) is not None:
            arrays[name] = np.array([getattr(w, name) for w in walkers])
    recent = [kept for w in walkers for kept in w.recent]
    return told, arrays | {f"recent_{key}": values for key, values in flat(recent).items()}


def unpack(told: Sequence[Mapping[str, Any]], arrays: Mapping[str, Any], replicas: Sequence[Replica]) -> list[Walker]:
    """Return what `pack` packed. replicas: all of the plan."""
    own = [replicas[each["number"]] for each in told]
    ends = np.cumsum([len(replica.start) for replica in own])[:-1]
    rows = {name: np.split(arrays[name], ends) for name in _ROWS if told}
    recent = unflat({key.removeprefix("recent_"): arrays[key] for key in arrays if key.startswith("recent_")}, replicas)
    walkers = []
    for index, (each, replica) in enumerate(zip(told, own, strict=True)):
        values = {name: each[name] for name in _TOLD}
        values["barostat"] = None if each["barostat"] is None else tuple(each["barostat"])
        values |= {name: rows[name][index] for name in _ROWS}
        values |= {name: arrays[name][index] if name in arrays else None for name in _MATRICES}
        sane = deque((next(recent) for _ in range(each["recent"])), maxlen=each["keeps"])
        generator = new_generator(replica.seed, each["rng"])
        walkers.append(Walker(replica=replica, generator=generator, recent=sane, **values))
    return walkers


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """Return a generator's state as JSON data."""
    return dict(generator.bit_generator.state)


def new_generator(seed: int, state: dict[str, Any] | None = None) -> np.random.Generator:
    """Return a PCG64 generator at its seed, or where `generator_state` left it."""
    generator = np.random.Generator(np.random.PCG64(seed))
    if state is not None:
        generator.bit_generator.state = state
    return generator
