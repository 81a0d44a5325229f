"""Many replicas end to end in one ase.Atoms, so that ASE's per-atom integrators move them all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from ipip_ext.compute import compute_each
from ipip_ext.md.replicas import Replica, fixed_atoms
from ipip_ext.potential import Array, Potential
from ipip_ext.units import KB_EV_PER_K


class Stack:
    """Replicas in one Atoms, and the calculator of it.

    Each replica keeps its own cell, pbc, random numbers and rows; the stack has no cell.
    After `get_forces`: energies_eV (n_replicas,), forces (n_rows, 3) and failures (replica's index -> why)
    belong to the present positions.
    """

    def __init__(
        self, potential: Potential, replicas: Sequence[Replica], generators: Sequence[np.random.Generator],
        positions: Array, momenta: Array,
    ) -> None:  # fmt: skip
        self.potential = potential
        self.replicas = list(replicas)
        self.generators = list(generators)
        self.frames = [_bare(replica.start) for replica in replicas]
        counts = [len(frame) for frame in self.frames]
        self.counts = np.array(counts)
        self.offsets = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)
        self.rows = [slice(int(o), int(o) + n) for o, n in zip(self.offsets, counts, strict=True)]
        self.atoms = self._end_to_end(positions, momenta)
        self._spread(positions)
        self.masses = self.atoms.get_masses()[:, None]
        self.energies_eV = np.zeros(len(counts))
        self.reference_energies_eV = np.zeros(len(counts))
        self.forces = np.zeros((sum(counts), 3))
        self.failures: dict[int, str] = {}

    def _end_to_end(self, positions: Array, momenta: Array) -> Atoms:
        starts = [replica.start for replica in self.replicas]
        atoms = Atoms(
            np.concatenate([start.numbers for start in starts]),
            positions=positions,
            masses=np.concatenate([start.get_masses() for start in starts]),
        )
        atoms.set_momenta(momenta)
        held = [o + i for start, o in zip(starts, self.offsets, strict=True) for i in fixed_atoms(start)]
        self.free = self.counts - np.array([len(fixed_atoms(start)) for start in starts])
        if held:
            atoms.set_constraint(FixAtoms(held))
        atoms.calc = self
        return atoms

    def get_forces(self, atoms: Atoms) -> Array:
        """Evaluate the replicas at the positions of `atoms` (called by ASE's integrators)."""
        self._spread(atoms.arrays["positions"])
        predictions, self.failures = compute_each(self.potential, self.frames)
        self.energies_eV = np.array([prediction.energy_eV for prediction in predictions])
        self.forces = np.concatenate([prediction.forces_eV_per_A for prediction in predictions])
        return self.forces.copy()

    def _spread(self, positions: Array) -> None:
        for frame, rows in zip(self.frames, self.rows, strict=True):
            frame.arrays["positions"][:] = positions[rows]

    def temperatures(self) -> Array:
        """Return each replica's kinetic temperature in K, over all that may move, (n_replicas,)."""
        momenta = self.atoms.arrays["momenta"]
        twice_kinetic_eV = np.add.reduceat((momenta * momenta / self.masses).sum(axis=1), self.offsets)
        return np.asarray(twice_kinetic_eV / (3 * np.maximum(self.free, 1) * KB_EV_PER_K))

    def largest_forces(self) -> Array:
        """Return the largest force on an atom of each replica, eV/A, (n_replicas,); NaN where one is."""
        squared = np.einsum("ij,ij->i", self.forces, self.forces)
        return np.sqrt(np.maximum.reduceat(squared, self.offsets))

    def without(self, gone: Iterable[int]) -> Stack:
        """Return a stack of the others, their state to the last bit as it is."""
        left = [index for index in range(len(self.replicas)) if index not in set(gone)]
        rows = np.concatenate([np.arange(r.start, r.stop) for r in (self.rows[i] for i in left)])
        stack = Stack(
            self.potential,
            [self.replicas[i] for i in left],
            [self.generators[i] for i in left],
            self.atoms.positions[rows],
            self.atoms.arrays["momenta"][rows],
        )
        stack.energies_eV = self.energies_eV[left]
        stack.reference_energies_eV = self.reference_energies_eV[left]
        stack.forces = self.forces[rows]
        return stack


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


def _bare(start: Atoms) -> Atoms:
    """Return a copy that holds what a potential may look at, and none of the start's labels."""
    frame = Atoms(start.numbers, positions=start.positions, cell=start.cell, pbc=start.pbc)
    for name in ("initial_charges", "initial_magmoms", "tags"):
        if start.has(name):
            frame.set_array(name, start.get_array(name))
    return frame


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """Return a generator's state as JSON data."""
    return dict(generator.bit_generator.state)


def new_generator(seed: int, state: dict[str, Any] | None = None) -> np.random.Generator:
    """Return a PCG64 generator at its seed, or where `generator_state` left it."""
    generator = np.random.Generator(np.random.PCG64(seed))
    if state is not None:
        generator.bit_generator.state = state
    return generator
