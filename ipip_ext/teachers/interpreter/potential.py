"""A calculator that runs in another Python, as a Potential: for codes whose packages clash with ours, and slow ones."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator

from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.ase_calculator import PotentialCalculator
from ipip_ext.potentials.base import FrameFailed, Prediction
from ipip_ext.potentials.faults import fault_of, require_sound
from ipip_ext.teachers.interpreter.process import Died, Order, Worker


class RemotePotential:
    """An ASE calculator of another interpreter as a Potential.

    factory: `module:factory` there; what it returns is asked frame by frame, or in batches if it has a
    `compute` as `Potential` has. workers: processes among which the frames of a call are spread.
    root: the recipe's folder, where the module is looked for if that interpreter has none of its name.
    """

    n_parameters: int | None = None

    def __init__(
        self, interpreter: Path, factory: str, kwargs: Mapping[str, Any], name: str, *, workers: int = 1,
        root: Path | None = None,
    ) -> None:  # fmt: skip
        """Start the processes. Raises CalculatorError if one can't be started or can't make its calculator."""
        self.name, self.workers = name, workers
        self._interpreter, self._order, self._stopped = interpreter, Order(factory, kwargs, root), False
        self._at_work: list[Worker | None] = [None] * workers
        pool = ThreadPoolExecutor(workers)
        with self._interruptible(pool):
            started = list(pool.map(self._start, range(workers)))
        self.batched, self.versions = started[0].batched, started[0].versions
        self._idle: SimpleQueue[int] = SimpleQueue()
        for number in range(workers):
            self._idle.put(number)

    def compute(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Prediction]:
        """Return one `Prediction` a frame. Raises FrameFailed with the calculator's own words.

        A process that dies is started anew and asked once more; if it dies again, that frame has failed.
        """
        require_sound(frames, stress=stress)
        answers = self._compute(frames, stress)
        for answer in answers:
            if isinstance(answer, FrameFailed):
                raise answer
        return [answer for answer in answers if isinstance(answer, Prediction)]

    def compute_separately(self, frames: Sequence[Atoms]) -> list[Prediction | FrameFailed]:
        """Return a `Prediction` a frame, or why there is none."""
        return self._compute(frames, stress=False)

    def calculator(self) -> Calculator:
        """Return an ASE calculator that asks the other interpreter."""
        return PotentialCalculator(self)

    def _compute(self, frames: Sequence[Atoms], stress: bool) -> list[Prediction | FrameFailed]:
        share = max(1, -(-len(frames) // self.workers)) if self.batched else 1
        pool = ThreadPoolExecutor(self.workers)
        with self._interruptible(pool):
            jobs = [pool.submit(self._ask, i, frames[i : i + share], stress) for i in range(0, len(frames), share)]
            return list(itertools.chain.from_iterable(job.result() for job in jobs))

    @contextlib.contextmanager
    def _interruptible(self, pool: ThreadPoolExecutor) -> Iterator[None]:
        """End all processes if this block is interrupted: its threads wait for them, which may take hours."""
        try:
            yield
        except BaseException:
            self._stopped = True
            for worker in self._at_work:
                if worker is not None:
                    worker.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _start(self, number: int) -> Worker:
        """Return a new process in the place `number`, where an interrupt finds it from its first moment on."""
        worker = self._at_work[number] = Worker(self._interpreter)
        if self._stopped:
            worker.kill()
        worker.make(self._order)
        return worker

    def _ask(self, first: int, frames: Sequence[Atoms], stress: bool) -> list[Prediction | FrameFailed]:
        try:
            for why in filter(None, map(fault_of, frames)):
                raise CalculatorError(why)
            labels = self._labels(frames, stress)
        except (Died, CalculatorError) as error:
            if len(frames) == 1 or self._stopped:
                return [FrameFailed(first + i, f"{self.name}: {error}") for i in range(len(frames))]
            return [answer for i, atoms in enumerate(frames) for answer in self._ask(first + i, [atoms], stress)]
        return [
            FrameFailed(first + i, f"{self.name}: {label}") if isinstance(label, str) else label
            for i, label in enumerate(labels)
        ]

    def _labels(self, frames: Sequence[Atoms], stress: bool) -> list[Prediction | str]:
        number = self._idle.get()
        try:
            worker = self._at_work[number]
            assert worker is not None
            try:
                return worker.label(frames, stress)
            except Died:
                if self._stopped:
                    raise
                return self._start(number).label(frames, stress)
        finally:
            self._idle.put(number)


def check_remote(interpreter: Path, factory: str, root: Path | None = None) -> None:
    """Raise CalculatorError unless `interpreter` runs and can import `factory`; nothing is built."""
    worker = Worker(interpreter)
    try:
        worker.make(Order(factory, {}, root, build=False))
    finally:
        worker.close()
