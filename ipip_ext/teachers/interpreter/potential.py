"""A calculator that runs in another Python: for codes whose packages clash with ours.

ASE's socket protocol (i-PI's) sends one structure of fixed composition at a time, in Bohr and Hartree. The
frames of a pool change in composition from one to the next and a label should come back bitwise, so frames go
as lines of JSON through pipes instead: many in a message, several processes at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.ase_calculator import PotentialCalculator
from ipip_ext.potentials.base import FrameFailed, Prediction, shares
from ipip_ext.potentials.cells import of_plane
from ipip_ext.potentials.charge import state_of
from ipip_ext.potentials.faults import fault_of, require_sound

_WORKER = Path(__file__).with_name("worker.py")
_RUN = "import runpy, sys; sys.path.pop(0); runpy.run_path(sys.argv[1], run_name='__main__')"
"""Run as a script, its folder would come first on the path, and our modules before others of the same name."""


class RemotePotential:
    """An ASE calculator of another interpreter as a Potential.

    factory: `module:factory` there; what it returns is asked frame by frame, or in batches if it has a
    `compute` as `Potential` has. workers: processes among which the frames of a call are spread.
    """

    n_parameters: int | None = None

    def __init__(
        self, interpreter: Path, factory: str, kwargs: Mapping[str, Any], name: str, *, workers: int = 1,
        root: Path | None = None,
    ) -> None:  # fmt: skip
        """Start the processes. Raises CalculatorError if one can't be started or can't make its calculator."""
        self.name, self.workers = name, workers

        def start() -> _Worker:
            return _Worker(interpreter, factory, kwargs, root)

        with ThreadPoolExecutor(workers) as pool:
            started = list(pool.map(lambda make: make(), [start] * workers))
        self.batched, self.versions = started[0].batched, started[0].versions
        self._start, self._stopped = start, False
        self._workers: list[_Worker] = started
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
        try:
            jobs = [pool.submit(self._ask, i, frames[i : i + share], stress) for i in range(0, len(frames), share)]
            return list(itertools.chain.from_iterable(job.result() for job in jobs))
        except BaseException:  # an interrupt: the threads wait for processes that may take hours
            self._stopped = True
            for worker in self._workers:
                worker.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask(self, first: int, frames: Sequence[Atoms], stress: bool) -> list[Prediction | FrameFailed]:
        try:
            for why in filter(None, map(fault_of, frames)):
                raise CalculatorError(why)
            labels = self._labels(frames, stress)
        except (_Died, CalculatorError) as error:
            if len(frames) == 1 or self._stopped:
                return [FrameFailed(first + i, f"{self.name}: {error}") for i in range(len(frames))]
            return [answer for i, atoms in enumerate(frames) for answer in self._ask(first + i, [atoms], stress)]
        return [self._answer(first + i, *each) for i, each in enumerate(zip(frames, labels, strict=True))]

    def _labels(self, frames: Sequence[Atoms], stress: bool) -> list[dict[str, Any]]:
        number = self._idle.get()
        try:
            try:
                return self._workers[number].label(frames, stress)
            except _Died:
                if self._stopped:
                    raise
                self._workers[number] = self._start()
                return self._workers[number].label(frames, stress)
        finally:
            self._idle.put(number)

    def _answer(self, index: int, atoms: Atoms, label: Mapping[str, Any]) -> Prediction | FrameFailed:
        if "error" in label:
            return FrameFailed(index, f"{self.name}: {label['error']}")
        tensor = None if label["stress"] is None else of_plane(np.array(label["stress"], dtype=float), atoms)
        forces = np.array(label["forces"], dtype=float).reshape(-1, 3)
        return Prediction(label["energy"], forces, tensor, shares(label["energies"], label["energy"], len(atoms)))


def check(interpreter: Path, factory: str, root: Path | None = None) -> None:
    """Raise CalculatorError unless `interpreter` runs and can import `factory`; nothing is built."""
    _Worker(interpreter, factory, {}, root, build=False).close()


class _Died(Exception):
    """The process on the far side is gone."""


class _Worker:
    """One process. It ends itself when its stdin is closed, so it outlives no run, however that ends."""

    def __init__(
        self, interpreter: Path, factory: str, kwargs: Mapping[str, Any], root: Path | None, *, build: bool = True
    ) -> None:  # fmt: skip
        self._words = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - lives on
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running what the recipe names is the purpose
                [str(interpreter), "-c", _RUN, str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self._words, text=True, env=_environment(),
                start_new_session=True,  # an interrupt is ours to pass on
            )  # fmt: skip
        except OSError as error:
            raise CalculatorError(f"interpreter: {interpreter}: can't be run ({error.strerror}).") from None
        self.close = weakref.finalize(self, _end, self._process)
        folder = [str(root.resolve())] if root is not None else []
        order = {"factory": factory, "kwargs": dict(kwargs), "sys_path": folder, "build": build}
        try:
            answer = self._exchange(order)
        except _Died as error:
            raise CalculatorError(
                f"interpreter: {interpreter}: {error}; it must be a Python with numpy and ase."
            ) from None
        if "error" in answer:
            raise CalculatorError(f"python: {factory} in {interpreter}: {answer['error']}")
        self.versions: Mapping[str, str] = answer["versions"]
        self.batched: bool = answer["batched"]

    def label(self, frames: Sequence[Atoms], stress: bool) -> list[dict[str, Any]]:
        """Return what the far side says of each frame. Raises _Died."""
        labels: list[dict[str, Any]] = self._exchange({"frames": [_plain(a) for a in frames], "stress": stress})[
            "labels"
        ]
        return labels

    def kill(self) -> None:
        """End the process in the middle of whatever it does."""
        self._process.kill()

    def _exchange(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            raise _Died(self._last_words()) from None
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._words.seek(0)
        last = " ".join(self._words.read()[-300:].split()) or "nothing"
        return f"its process ended with exit code {code}, having said: {last}"


def _end(process: subprocess.Popen[str]) -> None:
    """Hang up: that is what the far side ends on."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()


def _plain(atoms: Atoms) -> dict[str, Any]:
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "info": {key: getattr(value, "tolist", lambda v=value: v)() for key, value in state_of(atoms).items()},
    }


def _environment() -> dict[str, str]:
    """The environment, less what would lead another Python to our packages; a thread each, unless it says more."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {"OMP_NUM_THREADS": "1", **{key: value for key, value in os.environ.items() if key not in ours}}
