"""When a replica has left the physical world and is stopped.

What is cheap (failures, non-finite numbers, forces) is looked at after every step, so that no
potential is ever asked about positions a wild force has made; the rest every `check_every` steps
and before every kept frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.data.geometry import closest_approach
from ipip_ext.md.replicas import Replica
from ipip_ext.md.stacked import Stack
from ipip_ext.potentials.base import Array
from ipip_ext.potentials.home import FAR, farthest, told
from ipip_ext.recipe.walk import Explore

UNKNOWN = "unknown"
REASONS = ("calculator", "non_finite", "force", "distance", "temperature", "energy", "volume", UNKNOWN)

Watch = Callable[[Atoms], Array]
"""Gives the home distance of each atom of a frame, (n_atoms,); see `potentials.home`."""


@dataclass(frozen=True)
class Stop:
    """Why a replica ended early, or began again.

    temperature_K: of the thermostat then. md_step: the step whose frame was refused. value, limit: in the unit that
    `sentence` names; None where the reason (calculator, non_finite) has no number.
    frame_ids: frames kept from right before, the last one newest. attempt: how often it had begun again before.
    restarted: whether it began again.
    """

    replica: str
    start: str
    temperature_K: float
    md_step: int
    reason: str
    value: float | None
    limit: float | None
    sentence: str
    frame_ids: tuple[str, ...] = ()
    attempt: int = 0
    restarted: bool = False


@dataclass(frozen=True)
class _Seen:
    """One walker as the guard sees it."""

    stack: Stack
    index: int
    settings: Explore

    @property
    def replica(self) -> Replica:
        return self.stack.replicas[self.index]

    def stop(self, reason: str, told: str, value: float | None = None, limit: float | None = None) -> Stop:
        replica, md_step = self.replica, int(self.stack.md_steps[self.index])
        sentence = (
            f"{replica.id} (start {replica.start_name}, {replica.temperatures})"
            f" stopped at step {md_step}: {' '.join(told.split())}."
        )
        target_K = replica.target_temperature(md_step, self.settings.n_steps)
        return Stop(replica.id, replica.start_name, target_K, md_step, reason, value, limit, sentence)


def find_stops(stack: Stack, settings: Explore, thorough: NDArray[np.bool_]) -> dict[int, Stop]:
    """Return the walkers of `stack` to be stopped, by index. thorough: (n_walkers,), at which to look in full."""
    forces = stack.largest_forces()
    limit = settings.guard.max_force_eV_per_A
    if not stack.failures and not thorough.any() and np.all(forces <= limit) and np.isfinite(stack.energies_eV).all():
        return {}
    temperatures_K = stack.temperatures()
    stops = {}
    for index in range(len(stack.walkers)):
        seen = _Seen(stack, index, settings)
        if index in stack.failures:
            stop: Stop | None = seen.stop("calculator", f"the calculator failed: {stack.failures[index]}")
        else:
            stop = _quick(seen, float(forces[index]))
            if stop is None and thorough[index]:
                stop = _thorough(seen, float(temperatures_K[index]))
        if stop is not None:
            stops[index] = stop
    return stops


def find_unknown(stack: Stack, settings: Explore, which: Iterable[int], watch: Watch) -> dict[int, Stop]:
    """Return those of the walkers `which` that are far outside of what the potential has learnt, by index.

    Nothing is wrong with them but that nobody knows what their forces are worth.
    """
    stops = {}
    for index in which:
        frame = stack.frames[index]
        distances = watch(frame)
        far = float(distances[farthest(distances)])
        if far > FAR:
            words = f"{told(frame, distances)}, far outside of what the model has learnt (limit {FAR:g})"
            stops[index] = _Seen(stack, index, settings).stop(UNKNOWN, words, far, FAR)
    return stops


def _quick(seen: _Seen, force: float) -> Stop | None:
    stack, rows = seen.stack, seen.stack.rows[seen.index]
    numbers = np.sum(stack.forces[rows]) + np.sum(stack.atoms.positions[rows]) + stack.energies_eV[seen.index]
    if stack.moves_cell:
        numbers += np.sum(np.asarray(stack.stresses[seen.index], dtype=float))
    if not np.isfinite(numbers):
        return seen.stop("non_finite", "energy, forces, stress or positions are not finite")
    limit = seen.settings.guard.max_force_eV_per_A
    if force > limit:
        return seen.stop("force", f"the force on an atom is {force:.1f} eV/A (limit {limit:g})", force, limit)
    return None


def _thorough(seen: _Seen, temperature_K: float) -> Stop | None:
    stack, index, replica, guard = seen.stack, seen.index, seen.replica, seen.settings.guard
    limit = guard.min_distance_factor
    closest = closest_approach(stack.frames[index], limit)
    if closest < limit:
        told = f"two atoms are {closest:.2f} of the sum of their covalent radii apart (limit {limit:g})"
        return seen.stop("distance", told, closest, limit)
    begins_K = replica.temperature_K * max(1.0, seen.settings.initial_temperature_factor)
    limit = guard.max_temperature_factor * max(begins_K, replica.end_temperature_K)
    if temperature_K > limit:
        told = f"the kinetic temperature is {temperature_K:.0f} K (limit {limit:.0f})"
        return seen.stop("temperature", told, temperature_K, limit)
    rise = float(stack.energies_eV[index] - stack.walkers[index].reference_energy_eV) / int(stack.counts[index])
    limit = guard.max_energy_rise_eV_per_atom
    if abs(rise) > limit:
        told = f"the potential energy changed by {rise:+.2f} eV/atom since the start (limit {limit:g})"
        return seen.stop("energy", told, rise, limit)
    return _volume(seen) if stack.moves_cell else None


def _volume(seen: _Seen) -> Stop | None:
    limit = seen.settings.guard.max_volume_factor
    factor = float(seen.stack.frames[seen.index].get_volume() / seen.replica.start.get_volume())
    if 1 / limit <= factor <= limit:
        return None
    return seen.stop("volume", f"the cell's volume is {factor:.2f} of the start's (limit {limit:g})", factor, limit)
