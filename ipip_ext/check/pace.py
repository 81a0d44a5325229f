"""How fast a potential is on this machine, as it would be if nothing else ran there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ase import Atoms

from ipip_ext.potentials.base import Potential

Result = TypeVar("Result")

_CALLS = 3
_MANY = 10
"""Frames in the larger of two batches; what they differ in tells what a call costs and what an atom does."""

_ELSEWHERE = 0.05
"""Share of the wall time below which this thread only waits: for another process, not for its turn on a busy core."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a call of `compute`, and for each atom in it."""

    call_s: float
    atom_s: float

    def of(self, n_frames: float, atoms_per_frame: float, batch: int) -> float:
        """Return the seconds for frames in batches."""
        return math.ceil(n_frames / batch) * self.call_s + n_frames * atoms_per_frame * self.atom_s


def pace_of(potential: Potential, frames: Sequence[Atoms], device: str) -> Pace:
    """Measure on the first of `frames` alone and on ten of them; the first calls pay for torch's compilation."""
    many, few = list(frames[:_MANY]), list(frames[:1])
    of_many, of_one = (min(_seconds(potential, some, device) for _ in range(_CALLS)) for some in (many, few))
    n_many, n_one = sum(map(len, many)), len(few[0])
    if n_many == n_one:
        return Pace(0.0, of_one / n_one)
    # never all to a call: of a small model both are nearly alike, and chance decides which is the larger
    atom_s = max((of_many - of_one) / (n_many - n_one), 0.1 * of_many / n_many)
    return Pace(max(of_one - n_one * atom_s, 0.0), atom_s)


def timed(act: Callable[[], Result], device: str) -> tuple[Result, float]:
    """Return what `act` returns, and its seconds; on a CPU those of this thread, whatever else runs there."""
    wall, own = time.perf_counter(), time.thread_time()
    result = act()
    wall, own = time.perf_counter() - wall, time.thread_time() - own
    return result, own if device == "cpu" and own > _ELSEWHERE * wall else wall


def _seconds(potential: Potential, frames: Sequence[Atoms], device: str) -> float:
    return timed(lambda: potential.compute(frames), device)[1]
