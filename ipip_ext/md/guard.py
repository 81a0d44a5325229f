"""When a replica has left the physical world and is stopped.

What is cheap (failures, non-finite numbers, forces) is looked at after every step, so that no
potential is ever asked about positions a wild force has made; the rest every `check_every` steps
and before every kept frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ipip_ext.geometry import closest_approach
from ipip_ext.md.replicas import Replica
from ipip_ext.md.stacked import Stack
from ipip_ext.recipe import Explore

REASONS = ("calculator", "non_finite", "force", "distance", "temperature", "energy")


@dataclass(frozen=True)
class Stop:
    """Why a replica ended early.

    md_step: the step whose frame was refused. value, limit: in the unit that `sentence` names;
    None where the reason (calculator, non_finite) has no number.
    """

    replica: str
    start: str
    temperature_K: float
    md_step: int
    reason: str
    value: float | None
    limit: float | None
    sentence: str


def find_stops(stack: Stack, settings: Explore, md_step: int, thorough: bool) -> dict[int, Stop]:
    """Return the replicas of `stack` to be stopped, by index. thorough: look at everything."""
    stops = {
        index: _stop(stack.replicas[index], md_step, "calculator", f"the calculator failed: {message}")
        for index, message in stack.failures.items()
    }
    forces = stack.largest_forces()
    limit = settings.guard.max_force_eV_per_A
    if np.all(forces <= limit) and np.isfinite(stack.energies_eV).all() and not thorough:
        return stops
    temperatures_K = stack.temperatures()
    for index in range(len(stack.replicas)):
        if index in stops:
            continue
        stop = _quick(stack, index, limit, float(forces[index]), md_step)
        if stop is None and thorough:
            stop = _thorough(stack, index, settings, float(temperatures_K[index]), md_step)
        if stop is not None:
            stops[index] = stop
    return stops


def _quick(stack: Stack, index: int, limit: float, force: float, md_step: int) -> Stop | None:
    replica = stack.replicas[index]
    rows = stack.rows[index]
    if not np.isfinite(np.sum(stack.forces[rows]) + np.sum(stack.atoms.positions[rows]) + stack.energies_eV[index]):
        return _stop(replica, md_step, "non_finite", "energy, forces or positions are not finite")
    if force > limit:
        told = f"the force on an atom is {force:.1f} eV/A (limit {limit:g})"
        return _stop(replica, md_step, "force", told, force, limit)
    return None


def _thorough(stack: Stack, index: int, settings: Explore, temperature_K: float, md_step: int) -> Stop | None:
    replica, guard = stack.replicas[index], settings.guard
    limit = guard.min_distance_factor
    closest = closest_approach(stack.frames[index], limit)
    if closest < limit:
        told = f"two atoms are {closest:.2f} of the sum of their covalent radii apart (limit {limit:g})"
        return _stop(replica, md_step, "distance", told, closest, limit)
    hottest_K = replica.temperature_K * max(1.0, settings.initial_temperature_factor)
    limit = guard.max_temperature_factor * hottest_K
    if temperature_K > limit:
        told = f"the kinetic temperature is {temperature_K:.0f} K (limit {limit:.0f})"
        return _stop(replica, md_step, "temperature", told, temperature_K, limit)
    rise = float(stack.energies_eV[index] - stack.reference_energies_eV[index]) / int(stack.counts[index])
    limit = guard.max_energy_rise_eV_per_atom
    if abs(rise) > limit:
        told = f"the potential energy changed by {rise:+.2f} eV/atom since the start (limit {limit:g})"
        return _stop(replica, md_step, "energy", told, rise, limit)
    return None


def _stop(
    replica: Replica, md_step: int, reason: str, told: str, value: float | None = None, limit: float | None = None
) -> Stop:
    sentence = (
        f"{replica.id} (start {replica.start_name}, {replica.temperature_K:g} K)"
        f" stopped at step {md_step}: {' '.join(told.split())}."
    )
    return Stop(replica.id, replica.start_name, replica.temperature_K, md_step, reason, value, limit, sentence)
