"""MD of many replicas: stacked, guarded, and exactly resumable.

Replicas go in chunks of similar size, one chunk after the other. A chunk is one stack; a replica
that the guard stops leaves it. What a kill costs is the time since the last commit, and what
comes out afterwards is bitwise what would have come without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext.frames import ID
from ipip_ext.md.checkpoint import Kept, State, Store, claim
from ipip_ext.md.guard import Stop, find_stops
from ipip_ext.md.integrators import STACKABLE, integrator
from ipip_ext.md.replicas import Replica, initial_momenta
from ipip_ext.md.stacked import Stack, generator_state, new_generator
from ipip_ext.potential import Potential
from ipip_ext.recipe import Explore

Progress = Callable[[int, int, str], None]

COMMIT_EVERY_S = 20.0
"""Seconds between commits: the most a kill costs. Results do not depend on it."""


@dataclass(frozen=True)
class MDResult:
    """frames: by replica and step, each with info and MD_energy, MD_forces. stops: by replica."""

    frames: list[Atoms]
    stops: list[Stop]


def run(
    potential: Potential, replicas: Sequence[Replica], settings: Explore, folder: Path, progress: Progress
) -> MDResult:
    """Walk all replicas for `settings.n_steps`, keeping a frame every `frame_every` steps.

    folder: state and frames; called again after a kill it goes on from there.
    progress: given replica-steps done, of all, and a text.
    A replica that breaks is stopped and told of in `stops`; nothing it does ends the run.
    Raises WorkspaceError if `folder` holds another plan or is broken.
    """
    claim(folder, replicas, settings, potential.name)
    frames: list[Atoms] = []
    stops: list[Stop] = []
    total = len(replicas) * settings.n_steps
    behind = 0
    for number, chunk in enumerate(_chunks(replicas, settings)):
        store = Store(folder / f"chunk-{number:03d}", [len(replica.start) for replica in chunk])
        walk = Walk(potential, chunk, settings, store)
        for text in walk.steps():
            progress(behind + walk.steps_done(), total, text)
        behind += len(chunk) * settings.n_steps
        frames.extend(_frame(kept, chunk[kept.replica], settings) for kept in store.frames())
        stops.extend(walk.stops)
    frames.sort(key=lambda frame: (frame.info["replica"], frame.info["md_step"]))
    return MDResult(frames, sorted(stops, key=lambda stop: stop.replica))


class Walk:
    """One chunk on its way."""

    def __init__(self, potential: Potential, chunk: Sequence[Replica], settings: Explore, store: Store) -> None:
        self.potential = potential
        self.chunk = chunk
        self.settings = settings
        self.store = store
        self.md_step = 0
        self.alive = list(range(len(chunk)))
        self.stops: list[Stop] = []

    def steps(self) -> Iterator[str]:
        """Walk to the end, yielding a line at every step that keeps frames, and at the end."""
        state = self.store.load()
        if state is None:
            self._start()
        else:
            self._resume(state)
        committed_s = time.monotonic()
        while not self._finished():
            if self._advance():
                yield self._text()
            if self._finished() or time.monotonic() - committed_s > COMMIT_EVERY_S:
                self._commit()
                committed_s = time.monotonic()
        yield self._text()

    def steps_done(self) -> int:
        """Return the replica-steps that need no more work."""
        stopped = len(self.chunk) - len(self.alive)
        return self.md_step * len(self.alive) + self.settings.n_steps * stopped

    def _finished(self) -> bool:
        return not self.alive or self.md_step >= self.settings.n_steps

    def _advance(self) -> bool:
        """Take one step; return whether frames were kept."""
        self.md_step += 1
        keep = self.md_step % self.settings.frame_every == 0
        with np.errstate(all="ignore"):  # a replica running wild is the guard's business
            self.dynamics.step(self.stack.forces)
        self._guard(thorough=keep or self.md_step % self.settings.guard.check_every == 0)
        if keep:
            self._keep()
        return keep

    def _start(self) -> None:
        generators = [new_generator(replica.seed) for replica in self.chunk]
        factor = self.settings.initial_temperature_factor
        momenta = [
            initial_momenta(replica.start, replica.temperature_K * factor, generator)
            for replica, generator in zip(self.chunk, generators, strict=True)
        ]
        positions = np.concatenate([replica.start.positions for replica in self.chunk])
        stack = Stack(self.potential, self.chunk, generators, positions, np.concatenate(momenta))
        stack.atoms.get_forces(md=True)
        stack.reference_energies_eV = stack.energies_eV.copy()
        self._take(stack)
        self._guard(thorough=True)
        if self._finished():
            self._commit()

    def _resume(self, state: State) -> None:
        self.md_step, self.alive, self.stops = state.md_step, state.alive, state.stops
        if self._finished():
            return
        replicas = [self.chunk[index] for index in self.alive]
        generators = [new_generator(r.seed, told) for r, told in zip(replicas, state.rng, strict=True)]
        arrays = state.arrays
        stack = Stack(self.potential, replicas, generators, arrays["positions"], arrays["momenta"])
        stack.forces = arrays["forces"]
        stack.energies_eV = arrays["energies_eV"]
        stack.reference_energies_eV = arrays["reference_energies_eV"]
        self._take(stack)

    def _take(self, stack: Stack) -> None:
        self.stack = stack
        self.dynamics = integrator(stack, self.settings)

    def _guard(self, thorough: bool) -> None:
        with np.errstate(all="ignore"):
            found = find_stops(self.stack, self.settings, self.md_step, thorough)
        if not found:
            return
        self.stops.extend(found.values())
        self.alive = [replica for index, replica in enumerate(self.alive) if index not in found]
        if self.alive:
            self._take(self.stack.without(found))

    def _keep(self) -> None:
        for index, replica in enumerate(self.alive):
            rows, stack = self.stack.rows[index], self.stack
            self.store.pending.append(
                Kept(
                    replica, self.md_step, float(stack.energies_eV[index]),
                    stack.atoms.positions[rows].copy(), stack.forces[rows].copy(),
                )
            )  # fmt: skip

    def _commit(self) -> None:
        stack, arrays, rng = self.stack, {}, []
        if self.alive:
            arrays = {
                "positions": stack.atoms.positions,
                "momenta": stack.atoms.arrays["momenta"],
                "forces": stack.forces,
                "energies_eV": stack.energies_eV,
                "reference_energies_eV": stack.reference_energies_eV,
            }
            rng = [generator_state(generator) for generator in stack.generators]
        self.store.commit(State(self.md_step, self.alive, arrays, rng, self.stops))

    def _text(self) -> str:
        return f"step {self.md_step} of {self.settings.n_steps}, {len(self.alive)} of {len(self.chunk)} replicas"


def _chunks(replicas: Sequence[Replica], settings: Explore) -> list[list[Replica]]:
    """Return replicas of like size together: the batch is as slow as its memory's largest frame."""
    ordered = sorted(replicas, key=lambda replica: (len(replica.start), replica.id))
    size = settings.max_batch_replicas if settings.ensemble in STACKABLE else 1
    return [ordered[first : first + size] for first in range(0, len(ordered), size)]


def _frame(kept: Kept, replica: Replica, settings: Explore) -> Atoms:
    start = replica.start
    frame = Atoms(start.numbers, positions=kept.positions, cell=start.cell, pbc=start.pbc)
    frame.info = {
        ID: f"{replica.id}-{kept.md_step:06d}",
        "start": replica.start_name,
        "temperature_K": replica.temperature_K,
        "md_step": kept.md_step,
        "md_time_fs": kept.md_step * settings.timestep_fs,
        "replica": replica.id,
        "MD_energy": kept.energy_eV,
    }
    frame.set_array("MD_forces", kept.forces)
    return frame
