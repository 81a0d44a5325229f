"""Replicas: which walks there are, and how each begins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from ipip_ext.errors import DataError
from ipip_ext.md.kicks import pushed
from ipip_ext.potential import Array
from ipip_ext.recipe import Explore
from ipip_ext.seeds import derive
from ipip_ext.units import KB_EV_PER_K


@dataclass(frozen=True)
class Replica:
    """One walk: a start, a thermostat and a seed of its own, so that it needs no other replica."""

    id: str
    start: Atoms
    start_name: str
    temperature_K: float
    seed: int


def plan_replicas(starts: Sequence[Atoms], settings: Explore, seed: int, prefix: str) -> list[Replica]:
    """Return starts x temperatures x replicas, with ids such as `<prefix>-md03`.

    Raises DataError for constraints other than FixAtoms, and for a start that can't move at all.
    """
    for index, start in enumerate(starts):
        _check_constraints(start, start_name(start, index))
    walks = list(itertools.product(range(len(starts)), settings.temperatures_K, range(settings.replicas)))
    width = max(2, len(str(len(walks) - 1)))
    return [
        _replica(f"{prefix}-md{number:0{width}d}", starts, settings, seed, *walk) for number, walk in enumerate(walks)
    ]


def _replica(
    name: str, starts: Sequence[Atoms], settings: Explore, seed: int, index: int, temperature_K: float, copy: int
) -> Replica:
    own = derive(seed, "md", index, float(temperature_K), copy)
    start = starts[index]
    if settings.disturbs(copy):
        start = pushed(start, settings, fixed_atoms(start), np.random.default_rng(derive(own, "push")))
    return Replica(name, start, start_name(start, index), float(temperature_K), own)


def start_name(start: Atoms, index: int) -> str:
    """Return info["name"] of a start, or `start<index>`."""
    return str(start.info.get("name", f"start{index}"))


def fixed_atoms(atoms: Atoms) -> list[int]:
    """Return the indices of the atoms that FixAtoms holds."""
    held = [c.get_indices() for c in atoms.constraints if isinstance(c, FixAtoms)]
    return sorted({int(index) for indices in held for index in indices})


def initial_momenta(atoms: Atoms, temperature_K: float, generator: np.random.Generator) -> Array:
    """Return Maxwell-Boltzmann momenta (n, 3), without drift and zero for fixed atoms, ASE units."""
    masses = atoms.get_masses()[:, None]
    momenta = generator.standard_normal((len(atoms), 3)) * np.sqrt(masses * KB_EV_PER_K * temperature_K)
    fixed = fixed_atoms(atoms)
    if fixed:
        momenta[fixed] = 0.0
    elif len(atoms) > 1:  # a lone atom without drift would not move at all
        momenta -= masses * momenta.sum(axis=0) / masses.sum()
    return np.asarray(momenta, dtype=float)


def _check_constraints(start: Atoms, name: str) -> None:
    other = [type(c).__name__ for c in start.constraints if not isinstance(c, FixAtoms)]
    if other:
        raise DataError(f"start {name}: constraint {other[0]} is not supported in MD; use FixAtoms or none.")
    if len(fixed_atoms(start)) == len(start):
        raise DataError(f"start {name}: all its atoms are fixed; free some or take it out.")
