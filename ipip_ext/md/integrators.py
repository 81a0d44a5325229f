"""Ensembles: a recipe's name -> an ASE integrator. fs and 1/fs end here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.verlet import VelocityVerlet

from ipip_ext.errors import StageFailed
from ipip_ext.md.replicas import Replica, fixed_atoms, initial_momenta
from ipip_ext.md.stacked import Stack, StackedRng
from ipip_ext.md.walkers import new_generator
from ipip_ext.potentials.base import Array, Potential
from ipip_ext.recipe.walk import Explore
from ipip_ext.units import EV_PER_A3_PER_GPA, FS, KB_EV_PER_K

STACKABLE = frozenset({"nvt_langevin", "nve"})
"""Ensembles that treat each atom by itself; the others see the whole system's temperature."""


class Integrator(Protocol):
    """What MD needs of an integrator. It holds no state but what the walkers have."""

    def step(self, forces: Array) -> Array:
        """Move by one step from where the forces are `forces`; return the new forces, eV/A."""
        ...


class AseEngine:
    """ASE's integrators, for any potential (an `engines.Engine`)."""

    def __init__(self, _potential: Potential, _replicas: Sequence[Replica], settings: Explore) -> None:
        self.settings = settings
        self.most = settings.max_batch_replicas if settings.ensemble in STACKABLE else 1

    def room(self, walking: Sequence[Replica], waiting: Sequence[Replica]) -> int:
        """Return how many of `waiting` may join those `walking`."""
        return min(len(waiting), max(0, self.most - len(walking)))

    def dynamics(self, stack: Stack) -> Integrator:
        """Return the integrator of the recipe's ensemble for all replicas of `stack`."""
        build = {"nvt_langevin": _langevin, "nve": _nve, "nvt_bussi": _bussi, "npt": _Npt}[self.settings.ensemble]
        return build(stack, self.settings)


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


class _Ramped:
    """An integrator whose thermostat is set before each step."""

    def __init__(self, dynamics: Integrator, set_target: Callable[[], None]) -> None:
        self._dynamics, self._set_target = dynamics, set_target

    def step(self, forces: Array) -> Array:
        self._set_target()
        return self._dynamics.step(forces)


def _langevin(stack: Stack, settings: Explore) -> Integrator:
    def targets() -> Array:
        return np.repeat(stack.target_temperatures(settings.n_steps), stack.counts)[:, None]

    dynamics = Langevin(
        stack.atoms,
        timestep=settings.timestep_fs * FS,
        temperature_K=targets(),
        friction=settings.friction_per_fs / FS,
        fixcm=False,  # the stack's centre of mass is nobody's
        rng=StackedRng([walker.generator for walker in stack.walkers], stack.rows),
    )
    made: Integrator = dynamics
    return _Ramped(made, lambda: dynamics.set_temperature(temperature_K=targets())) if _ramps(stack) else made


def _nve(stack: Stack, settings: Explore) -> Integrator:
    dynamics: Integrator = VelocityVerlet(stack.atoms, timestep=settings.timestep_fs * FS)
    return dynamics


def _bussi(stack: Stack, settings: Explore) -> Integrator:
    (walker,) = stack.walkers
    dynamics = Bussi(
        stack.atoms,
        timestep=settings.timestep_fs * FS,
        temperature_K=stack.target_temperatures(settings.n_steps)[0],
        taut=FS / settings.friction_per_fs,
        rng=walker.generator,
    )
    start = walker.replica.start
    if len(start) > 1 and not fixed_atoms(start):
        # momenta begin without drift and Bussi keeps it so: those three carry no heat
        dynamics.ndof -= 3

    def set_target() -> None:
        dynamics.target_kinetic_energy = (
            0.5 * KB_EV_PER_K * stack.target_temperatures(settings.n_steps)[0] * dynamics.ndof
        )

    set_target()
    made: Integrator = dynamics
    return _Ramped(made, set_target) if _ramps(stack) else made


class _Npt:
    """Langevin dynamics of atoms and volume at constant pressure.

    The equations are those of Quigley and Probert, J. Chem. Phys. 120, 11432 (2004), split as BAOAB (Leimkuhler and
    Matthews, J. Chem. Phys. 138, 174102 (2013)). Of ASE's barostats this one is stochastic, so small cells are
    sampled as well as large ones; its state is two numbers beside the atoms', so it is resumed exactly; and its
    temperature may be a ramp. The cell keeps its shape.
    """

    def __init__(self, stack: Stack, settings: Explore) -> None:
        (walker,) = stack.walkers
        self._stack, self._walker, self._n_steps = stack, walker, settings.n_steps
        atoms = stack.atoms
        # ASE asks for forces at once; those of the present positions are known
        atoms.calc = SinglePointCalculator(atoms, forces=stack.forces, stress=stack.get_stress(atoms))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Using heuristic P_mass"
            self._dynamics = LangevinBAOAB(
                atoms,
                timestep=settings.timestep_fs * FS,
                temperature_K=self._target(),
                externalstress=-settings.pressure_GPa * EV_PER_A3_PER_GPA,
                hydrostatic=True,  # ASE 3.29 adds a trace to off-diagonal elements where the shape may change
                T_tau=FS / settings.friction_per_fs,
                P_tau=settings.barostat_time_fs * FS,
                rng=walker.generator,
            )
        atoms.calc = stack
        if walker.barostat is not None:
            self._dynamics.p_eps, self._dynamics.force_eps = walker.barostat

    def step(self, _forces: Array) -> Array:
        if _ramps(self._stack):
            self._dynamics.set_temperature(self._target())
        self._dynamics.step()
        self._walker.barostat = (float(self._dynamics.p_eps), float(self._dynamics.force_eps))
        return self._stack.forces

    def _target(self) -> float:
        return float(self._stack.target_temperatures(self._n_steps)[0])


def _ramps(stack: Stack) -> bool:
    return any(replica.end_temperature_K != replica.temperature_K for replica in stack.replicas)
