"""All replicas on their way: the stack, the queue behind it, and what is written.

Replicas wait in a queue, the largest first. As many as may be evaluated together walk as one stack; one that
ends or is stopped for good leaves it and the next enters, so that the stack stays full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ipip_ext.errors import DeviceLost
from ipip_ext.md.checkpoint import State, Store
from ipip_ext.md.engines import Engine
from ipip_ext.md.guard import UNKNOWN, Stop, Watch, find_stops, find_unknown
from ipip_ext.md.kept import Kept, name_of
from ipip_ext.md.replicas import Replica
from ipip_ext.md.room import check_room
from ipip_ext.md.stacked import Stack
from ipip_ext.md.walkers import Walker, again, begin
from ipip_ext.potentials.base import Potential
from ipip_ext.recipe.walk import Explore


class Walk:
    """Replicas on their way; `go` until it `is_finished`, and `commit` whenever it `is_whole`."""

    def __init__(
        self, potential: Potential, replicas: Sequence[Replica], settings: Explore, store: Store, engine: Engine,
        watch: Watch | None = None,
    ) -> None:  # fmt: skip
        self.potential = potential
        self.replicas = replicas
        self.settings = settings
        self.store = store
        self.engine = engine
        self.watch = watch
        # the largest first: memory that is too small shows at once
        self.queue = sorted(range(len(replicas)), key=lambda n: (-len(replicas[n].start), replicas[n].id))
        self.remembers = settings.guard.keep_before > 0 or settings.guard.restarts > 0
        self.entered = 0
        self.stops: list[Stop] = []
        self.stack: Stack | None = None
        self.is_whole = False
        """Whether no step, change of the stack or commit is half done, so that all may be committed."""
        self._most_done = 0

    def resume(self) -> None:
        """Go back to what was committed last. Raises WorkspaceError if that is broken, or if the disk has no room."""
        state = self.store.load()
        check_room(self.store.folder, self.replicas, self.settings, self.store.written_bytes)
        if state is not None:
            self.entered, self.stops = state.entered, state.stops
            self._stack(state.walkers)

    @property
    def is_finished(self) -> bool:
        """Whether every replica has entered, and none is on its way."""
        return self.stack is None and self.entered == len(self.queue)

    def go(self) -> bool:
        """Take a step of all that walk, or let replicas enter where none does; return whether it was a step."""
        self.is_whole = False
        stack = self.stack
        if stack is None:
            self._fill([])
        else:
            self._advance(stack)
        self.is_whole = True
        return stack is not None

    def steps_done(self) -> int:
        """Return the replica-steps that need no more work; a replica that begins again takes none back."""
        n_steps = max(self.settings.n_steps, 1)
        on_the_way = 0 if self.stack is None else int(self.stack.md_steps.sum())
        done = (self.entered - self._n_walking()) * n_steps + on_the_way
        self._most_done = max(self._most_done, done)
        return self._most_done

    def _n_walking(self) -> int:
        return 0 if self.stack is None else len(self.stack.walkers)

    def _advance(self, stack: Stack) -> None:
        """Take one step of all walkers; then keep, stop, and let others enter."""
        stack.md_steps += 1
        self._move(stack)
        keep = stack.md_steps % self.settings.frame_every == 0
        checked = keep | (stack.md_steps % self.settings.guard.check_every == 0)
        found = self._find_stops(stack, checked)
        if checked.any():
            self._keep(stack, keep, checked, found)
        if self.watch is not None:  # after the frame that shows it is kept
            found |= find_unknown(stack, self.settings, self._sane(keep, found), self.watch)
        ended = stack.md_steps >= self.settings.n_steps
        if found or ended.any():
            self._change(stack, found, ended)

    def _move(self, stack: Stack) -> None:
        try:
            with np.errstate(all="ignore"):  # a walker running wild is the guard's business
                self.dynamics.step(stack.forces)
        except DeviceLost:
            raise
        except Exception as error:
            if len(stack.walkers) > 1:  # per-atom integrators only add and multiply: whatever this is, it is nobody's
                raise
            stack.failures = {0: f"{type(error).__name__}: {error}"}

    def _find_stops(self, stack: Stack, checked: NDArray[np.bool_]) -> dict[int, Stop]:
        with np.errstate(all="ignore"):
            return find_stops(stack, self.settings, checked)

    @staticmethod
    def _sane(which: NDArray[np.bool_], found: Mapping[int, Stop]) -> list[int]:
        return [int(index) for index in np.flatnonzero(which) if index not in found]

    def _keep(
        self, stack: Stack, keep: NDArray[np.bool_], checked: NDArray[np.bool_], found: Mapping[int, Stop]
    ) -> None:
        """Put frames aside, and remember what was found sane."""
        temperatures_K = stack.temperatures()
        for index in self._sane(checked if self.remembers else keep, found):
            kept = stack.kept(index, float(temperatures_K[index]))
            if keep[index]:
                self.store.keep(kept)
            if self.remembers:
                stack.walkers[index].recent.append(kept)

    def _change(self, stack: Stack, found: Mapping[int, Stop], ended: NDArray[np.bool_]) -> None:
        """Let those leave that were stopped or have ended, and others enter."""
        left: list[Walker] = []
        for index, walker in enumerate(stack.part()):
            if index in found:
                left += self._stopped(walker, found[index])
            elif not ended[index]:
                left.append(walker)
        self._fill(left)

    def _stopped(self, walker: Walker, stop: Stop) -> list[Walker]:
        """Write down why a walker was stopped, with the frames from before; return it if it begins again."""
        guard = self.settings.guard
        before = [kept for kept in walker.recent if kept.md_step > 0][-guard.keep_before :] if guard.keep_before else []
        known = {frame_id for told in self.stops if told.replica == stop.replica for frame_id in told.frame_ids}
        for kept in before:
            if kept.md_step % self.settings.frame_every and name_of(kept, walker.replica) not in known:
                self.store.keep(kept)
        # where it was last found sane is unknown too
        restarts = stop.reason != UNKNOWN and walker.attempt < guard.restarts and len(walker.recent) > 0
        frame_ids = tuple(name_of(kept, walker.replica) for kept in before)
        self.stops.append(replace(stop, frame_ids=frame_ids, attempt=walker.attempt, restarted=restarts))
        return [again(walker, self.settings)] if restarts else []

    def _fill(self, walkers: list[Walker]) -> None:
        """Stack these walkers and as many from the queue as there is room for."""
        while numbers := self._next(walkers):
            self.entered += len(numbers)
            walkers = walkers + self._enter(numbers)
            if self.settings.n_steps == 0:  # nobody walks on: a batch at a time, so that frames can be written
                break
        self._stack(walkers)

    def _next(self, walkers: Sequence[Walker]) -> list[int]:
        """Return those of the queue that may join these walkers now."""
        waiting = self.queue[self.entered :]
        walking = [walker.replica for walker in walkers]
        return waiting[: self.engine.room(walking, [self.replicas[number] for number in waiting])]

    def _stack(self, walkers: list[Walker]) -> None:
        self.stack = None
        if walkers:
            self.stack = Stack(self.potential, walkers, stress=self.settings.ensemble == "npt")
            self.dynamics = self.engine.dynamics(self.stack)

    def _enter(self, numbers: Sequence[int]) -> list[Walker]:
        """Return these replicas at their starts, without those that are broken there."""
        walkers = [begin(number, self.replicas[number], self.settings) for number in numbers]
        stack = Stack(self.potential, walkers, stress=self.settings.ensemble == "npt")
        stack.get_forces(stack.atoms)
        for walker, energy_eV in zip(walkers, stack.energies_eV, strict=True):
            walker.reference_energy_eV = float(energy_eV)
        found = self._find_stops(stack, np.full(len(walkers), True))
        self.stops.extend(found.values())
        temperatures_K = stack.temperatures()
        sane = [index for index in range(len(walkers)) if index not in found]
        frames: list[Kept] = [stack.kept(index, float(temperatures_K[index])) for index in sane]
        if self.settings.n_steps == 0:
            for kept in frames:
                self.store.keep(kept)
            return []
        stack.part()
        for index, kept in zip(sane, frames, strict=True):
            walkers[index].recent.append(kept)
        return [walkers[index] for index in sane]

    def commit(self) -> None:
        """Write down where everything stands."""
        self.is_whole = False
        walkers = [] if self.stack is None else self.stack.part()
        self.store.commit(State(self.entered, walkers, self.stops))
        self.is_whole = True

    def text(self) -> str:
        """Return a line of progress."""
        n_walking, of = self._n_walking(), len(self.replicas)
        return f"{self.entered - n_walking} of {of} replicas done, {n_walking} on their way"
