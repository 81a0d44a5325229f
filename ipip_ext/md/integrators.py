"""Ensembles: a recipe's name -> an ASE integrator. fs and 1/fs end here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from ase import Atoms
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from ipip_ext.errors import StageFailed
from ipip_ext.md.replicas import fixed_atoms, initial_momenta
from ipip_ext.md.stacked import Stack, StackedRng, new_generator
from ipip_ext.potential import Array
from ipip_ext.recipe import Explore
from ipip_ext.units import FS, KB_EV_PER_K

STACKABLE = frozenset({"nvt_langevin", "nve"})
"""Ensembles that treat each atom by itself; the others see the whole system's temperature."""


class Integrator(Protocol):
    """What MD needs of ASE's integrators. They hold no state but the atoms' and the generators'."""

    def step(self, forces: Array) -> Array:
        """Move by one step from where the forces are `forces`; return the new forces, eV/A."""
        ...


def integrator(stack: Stack, settings: Explore) -> Integrator:
    """Return the integrator of `settings.ensemble` for all replicas of `stack`."""
    build = {"nvt_langevin": _langevin, "nve": _nve, "nvt_bussi": _bussi}[settings.ensemble]
    return build(stack, settings)


def stepper(atoms: Atoms, *, temperature_K: float = 300.0, timestep_fs: float = 1.0) -> Callable[[], None]:
    """Return a function that takes one NVE step of `atoms` by plain ASE, with the calculator it has.

    The function raises StageFailed if the calculator fails.
    """
    atoms.set_momenta(initial_momenta(atoms, temperature_K, new_generator(0)))
    dynamics = VelocityVerlet(atoms, timestep=timestep_fs * FS)

    def step() -> None:
        try:
            dynamics.step()
        except Exception as error:
            raise StageFailed(f"MD step failed: {type(error).__name__}: {error}") from error

    return step


def _langevin(stack: Stack, settings: Explore) -> Integrator:
    temperatures_K = np.repeat([replica.temperature_K for replica in stack.replicas], stack.counts)
    dynamics: Integrator = Langevin(
        stack.atoms,
        timestep=settings.timestep_fs * FS,
        temperature_K=temperatures_K[:, None],
        friction=settings.friction_per_fs / FS,
        fixcm=False,  # the stack's centre of mass is nobody's
        rng=StackedRng(stack.generators, stack.rows),
    )
    return dynamics


def _nve(stack: Stack, settings: Explore) -> Integrator:
    dynamics: Integrator = VelocityVerlet(stack.atoms, timestep=settings.timestep_fs * FS)
    return dynamics


def _bussi(stack: Stack, settings: Explore) -> Integrator:
    (replica,) = stack.replicas
    dynamics = Bussi(
        stack.atoms,
        timestep=settings.timestep_fs * FS,
        temperature_K=replica.temperature_K,
        taut=FS / settings.friction_per_fs,
        rng=stack.generators[0],
    )
    if len(replica.start) > 1 and not fixed_atoms(replica.start):
        # momenta begin without drift and Bussi keeps it so: those three carry no heat
        dynamics.ndof -= 3
        dynamics.target_kinetic_energy = 0.5 * KB_EV_PER_K * replica.temperature_K * dynamics.ndof
    made: Integrator = dynamics
    return made
