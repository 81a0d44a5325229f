"""Replicas: which walks there are, and how each begins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from ipip_ext.errors import DataError
from ipip_ext.md.kicks import VACUUM_A, filled_directions, pushed
from ipip_ext.potentials.base import Array
from ipip_ext.potentials.charge import state_of
from ipip_ext.potentials.faults import fault_of
from ipip_ext.recipe.walk import Explore
from ipip_ext.run.seeds import derive
from ipip_ext.units import KB_EV_PER_K


@dataclass(frozen=True)
class Replica:
    """One walk: a start, a thermostat and a seed of its own, so that it needs no other replica.

    temperature_K: of the thermostat at the start. end_temperature_K: at the end, another one for a linear ramp.
    """

    id: str
    start: Atoms
    start_name: str
    temperature_K: float
    seed: int
    end_temperature_K: float

    @property
    def temperatures(self) -> str:
        """The thermostat in words: `300 K` or `300 to 900 K`."""
        end = "" if self.end_temperature_K == self.temperature_K else f" to {self.end_temperature_K:g}"
        return f"{self.temperature_K:g}{end} K"

    def target_temperature(self, md_step: int, n_steps: int) -> float:
        """Return the thermostat's temperature in K at `md_step` of `n_steps`."""
        return self.temperature_K + (self.end_temperature_K - self.temperature_K) * (md_step / max(n_steps, 1))


def plan_replicas(starts: Sequence[Atoms], settings: Explore, seed: int, prefix: str) -> list[Replica]:
    """Return starts x temperatures x replicas, with ids such as `<prefix>-md03`.

    Raises DataError as `check_starts` does.
    """
    check_starts(starts, settings.ensemble)
    walks = list(itertools.product(range(len(starts)), settings.temperatures_K, range(settings.replicas)))
    width = max(2, len(str(len(walks) - 1)))
    return [
        _replica(f"{prefix}-md{number:0{width}d}", starts, settings, seed, *walk) for number, walk in enumerate(walks)
    ]


def check_starts(starts: Sequence[Atoms], ensemble: str) -> None:
    """Raise DataError for constraints other than FixAtoms, and for a start that can't move in `ensemble`, or at all."""
    for index, start in enumerate(starts):
        name = start_name(start, index)
        if (why := fault_of(start)) is not None:
            raise DataError(f"start {name}: {why}; mend it or take it out.")
        _check_constraints(start, name)
        if ensemble == "npt":
            _check_cell(start, name)


def _replica(
    name: str, starts: Sequence[Atoms], settings: Explore, seed: int, index: int,
    temperature_K: float | tuple[float, float], copy: int,
) -> Replica:  # fmt: skip
    first_K, last_K = temperature_K if isinstance(temperature_K, tuple) else (temperature_K, temperature_K)
    own = derive(seed, "md", index, temperature_K if isinstance(temperature_K, tuple) else float(temperature_K), copy)
    start = starts[index]
    if settings.disturbs(copy):
        start = pushed(start, settings, fixed_atoms(start), np.random.default_rng(derive(own, "push")))
    return Replica(name, start, start_name(start, index), float(first_K), own, float(last_K))


def start_name(start: Atoms, index: int) -> str:
    """Return info["name"] of a start, or `start<index>`."""
    return str(start.info.get("name", f"start{index}"))


def fixed_atoms(atoms: Atoms) -> list[int]:
    """Return the indices of the atoms that FixAtoms holds."""
    held = [c.get_indices() for c in atoms.constraints if isinstance(c, FixAtoms)]
    return sorted({int(index) for indices in held for index in indices})


def content_of(start: Atoms) -> bytes:
    """Return what tells one start from another by content: elements, positions, cell, masses, charge and spin."""
    arrays = (start.numbers, start.positions, start.cell.array, start.get_masses())
    state = repr(state_of(start)).encode() if state_of(start) else b""  # nothing for most: their walks go on
    return b"".join(np.ascontiguousarray(values).tobytes() for values in arrays) + state


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


def _check_cell(start: Atoms, name: str) -> None:
    """Raise DataError for a start whose cell no barostat should move."""
    if not start.pbc.all():
        raise DataError(f"start {name}: ensemble npt needs a cell that is periodic in all three directions.")
    if len(filled_directions(start)) < 3:
        raise DataError(
            f"start {name}: its cell holds vacuum (an empty layer of {VACUUM_A:g} A or more), which has no pressure to"
            " keep; take ensemble nvt_langevin for it."
        )
    if fixed_atoms(start):
        raise DataError(f"start {name}: ensemble npt moves all atoms with the cell; take its FixAtoms away.")
