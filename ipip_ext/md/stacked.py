"""Many replicas end to end in one ase.Atoms, so that ASE's per-atom integrators move them all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.stress import full_3x3_to_voigt_6_stress

from ipip_ext.md.kept import Kept
from ipip_ext.md.replicas import fixed_atoms
from ipip_ext.md.walkers import Walker
from ipip_ext.potentials.base import Array, Potential
from ipip_ext.potentials.charge import state_of
from ipip_ext.potentials.compute import Repeated, compute_each
from ipip_ext.units import KB_EV_PER_K


class Stack:
    """Walkers in one Atoms, and the calculator of it.

    Each keeps its own cell, pbc, random numbers and rows; the stack has no cell, but for a lone walker whose cell
    moves (stress: the potential is asked for it), as ASE's NPT wants it. After `get_forces` and `receive`:
    energies_eV (n_walkers,), forces (n_rows, 3), stresses (a (3, 3) for each, or None) and failures (walker's index
    -> why) belong to the present positions.
    """

    def __init__(self, potential: Potential, walkers: Sequence[Walker], *, stress: bool = False) -> None:
        self.potential = potential
        self.walkers = list(walkers)
        self.replicas = [walker.replica for walker in walkers]
        self.frames = [_bare(walker) for walker in walkers]
        counts = [len(frame) for frame in self.frames]
        self.counts = np.array(counts)
        self.offsets = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)
        self.rows = [slice(int(o), int(o) + n) for o, n in zip(self.offsets, counts, strict=True)]
        self.md_steps = np.array([walker.md_step for walker in walkers])
        self.moves_cell = stress
        self.atoms = self._end_to_end()
        self.masses = self.atoms.get_masses()[:, None]
        self.energies_eV = np.array([walker.energy_eV for walker in walkers])
        self.forces = np.concatenate([walker.forces for walker in walkers])
        self.stresses = [walker.stress for walker in walkers]
        self.failures: dict[int, str] = {}

    @cached_property
    def _evaluated(self) -> Repeated:
        """The frames on the device, made when they are first evaluated here: an engine may do so by itself."""
        return Repeated(self.potential, self.frames)

    def _end_to_end(self) -> Atoms:
        starts = [replica.start for replica in self.replicas]
        atoms = Atoms(
            np.concatenate([start.numbers for start in starts]),
            positions=np.concatenate([walker.positions for walker in self.walkers]),
            masses=np.concatenate([start.get_masses() for start in starts]),
        )
        if self.moves_cell and len(self.walkers) == 1:
            atoms.set_cell(self.walkers[0].cell)
            atoms.pbc = starts[0].pbc
        atoms.set_momenta(np.concatenate([walker.momenta for walker in self.walkers]))
        held = [o + i for start, o in zip(starts, self.offsets, strict=True) for i in fixed_atoms(start)]
        self.free = self.counts - np.array([len(fixed_atoms(start)) for start in starts])
        if held:
            atoms.set_constraint(FixAtoms(held))
        atoms.calc = self
        return atoms

    def get_forces(self, atoms: Atoms) -> Array:
        """Evaluate the walkers at the positions of `atoms` (called by ASE's integrators)."""
        self._spread(atoms)
        if self.moves_cell:
            if len(self.frames) == 1:
                self.frames[0].cell[:] = atoms.cell.array
            predictions, self.failures = compute_each(self.potential, self.frames, stress=True)
            self.energies_eV = np.array([prediction.energy_eV for prediction in predictions])
            self.forces = np.concatenate([prediction.forces_eV_per_A for prediction in predictions])
            self.stresses = [prediction.stress_eV_per_A3 for prediction in predictions]
        else:
            self.energies_eV, self.forces, self.failures = self._evaluated.compute(atoms.arrays["positions"])
        return self.forces.copy()

    def get_stress(self, _atoms: Atoms) -> Array:
        """Return the stress of the lone walker at its present positions, Voigt's six (called by ASE's NPT)."""
        return np.asarray(full_3x3_to_voigt_6_stress(self.stresses[0]))

    def receive(
        self, positions: Array, momenta: Array, forces: Array, energies_eV: Array, failures: Mapping[int, str]
    ) -> None:
        """Take over what an integrator that is not ASE's made of a step; shapes and units as of the attributes."""
        self.atoms.arrays["positions"][:], self.atoms.arrays["momenta"][:] = positions, momenta
        self._spread(self.atoms)
        self.forces, self.energies_eV, self.failures = forces, energies_eV, dict(failures)

    def _spread(self, atoms: Atoms) -> None:
        for frame, rows in zip(self.frames, self.rows, strict=True):
            frame.arrays["positions"][:] = atoms.arrays["positions"][rows]

    def temperatures(self) -> Array:
        """Return each walker's kinetic temperature in K, over all that may move, (n_walkers,)."""
        momenta = self.atoms.arrays["momenta"]
        twice_kinetic_eV = np.add.reduceat((momenta * momenta / self.masses).sum(axis=1), self.offsets)
        return np.asarray(twice_kinetic_eV / (3 * np.maximum(self.free, 1) * KB_EV_PER_K))

    def target_temperatures(self, n_steps: int) -> Array:
        """Return the temperature of each walker's thermostat at its step of `n_steps`, K, (n_walkers,)."""
        steps = zip(self.replicas, self.md_steps, strict=True)
        return np.array([replica.target_temperature(int(md_step), n_steps) for replica, md_step in steps])

    def largest_forces(self) -> Array:
        """Return the largest force on an atom of each walker, eV/A, (n_walkers,); NaN where one is."""
        squared = np.einsum("ij,ij->i", self.forces, self.forces)
        return np.sqrt(np.maximum.reduceat(squared, self.offsets))

    def kept(self, index: int, kinetic_temperature_K: float) -> Kept:
        """Return the present configuration of a walker as a frame."""
        rows = self.rows[index]
        return Kept(
            self.walkers[index].number, int(self.md_steps[index]), float(self.energies_eV[index]),
            kinetic_temperature_K, self.atoms.positions[rows].copy(), self.forces[rows].copy(),
            self.frames[index].cell.array.copy(), self.stresses[index],
        )  # fmt: skip

    def part(self) -> list[Walker]:
        """Give the walkers back what is theirs, to the last bit as it is, and return them."""
        for index, (walker, rows) in enumerate(zip(self.walkers, self.rows, strict=True)):
            walker.positions = self.atoms.positions[rows].copy()
            walker.momenta = self.atoms.arrays["momenta"][rows].copy()
            walker.forces = self.forces[rows].copy()
            walker.cell = self.frames[index].cell.array.copy()
            walker.energy_eV = float(self.energies_eV[index])
            walker.stress = self.stresses[index]
            walker.md_step = int(self.md_steps[index])
        return self.walkers


class StackedRng:
    """Random numbers for a stack: each replica's rows come from its own generator.

    So a replica walks the same way whichever others walk beside it.
    """

    def __init__(self, generators: Sequence[np.random.Generator], rows: Sequence[slice]) -> None:
        self.pairs = list(zip(generators, rows, strict=True))

    def standard_normal(self, size: tuple[int, int]) -> Array:
        """Return normal deviates of shape `size`, (n_rows, 3)."""
        drawn = np.empty(size)
        for generator, rows in self.pairs:
            generator.standard_normal(out=drawn[rows])
        return drawn


def _bare(walker: Walker) -> Atoms:
    """Return what a potential may look at of a walker, and none of the start's labels."""
    start = walker.replica.start
    frame = Atoms(start.numbers, positions=walker.positions, cell=walker.cell, pbc=start.pbc)
    for name in ("initial_charges", "initial_magmoms", "tags"):
        if start.has(name):
            frame.set_array(name, start.get_array(name))
    frame.info = state_of(start)
    return frame
