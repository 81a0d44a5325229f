"""The near side of a process of another Python: it is given an order once, then structures, and answers with labels.

ASE's socket protocol (i-PI's) sends one structure of fixed composition at a time, in Bohr and Hartree. The
frames of a pool change in composition from one to the next and a label should come back bitwise, so frames go
as lines of JSON through pipes instead, many in a message.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.base import Prediction, shares
from ipip_ext.potentials.cells import of_plane
from ipip_ext.potentials.charge import state_of
from ipip_ext.run import processes

_WORKER = Path(__file__).with_name("worker.py")
_RUN = """
import sys
if sys.path[0] == "":
    del sys.path[0]
import runpy
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""What `python -c` is given. First of all it takes the working folder off the path, where -P is not known; and run as
a script, the worker's own folder would stand there, with modules that others have names for too."""


class Died(Exception):
    """The process on the far side is gone; its last words are the message."""


@dataclass(frozen=True)
class Order:
    """What a process is to make: `module:factory`, or `file.py:factory`, called with `kwargs`.

    root: the recipe's folder; a module that is not installed in that Python is looked for there. build: whether to
    call the factory; without, it is only imported.
    """

    factory: str
    kwargs: Mapping[str, Any]
    root: Path | None = None
    build: bool = True


class Worker:
    """One process. It ends itself when its stdin is closed, so it outlives no run, however that ends.

    batched: whether it takes many frames in a call. versions: of what decides its labels. Both once it has made its
    calculator.
    """

    batched: bool
    versions: Mapping[str, str]

    def __init__(self, interpreter: Path) -> None:
        """Start it. Raises CalculatorError if it can't be."""
        self._interpreter = interpreter
        self._words = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - lives on
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running what the recipe names is the purpose
                [str(interpreter), "-c", _RUN, str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self._words, text=True, env=_environment(),
                start_new_session=True,  # an interrupt is ours to pass on
            )  # fmt: skip
        except OSError as error:
            raise CalculatorError(f"interpreter: {interpreter}: can't be run ({error.strerror}).") from None
        self.close = weakref.finalize(self, _hang_up, self._process)

    def make(self, order: Order) -> None:
        """Have it make its calculator. Raises CalculatorError, with its own words, if it can't."""
        folder = None if order.root is None else str(order.root.resolve())
        wanted = {"factory": order.factory, "kwargs": dict(order.kwargs), "folder": folder, "build": order.build}
        try:
            answer = self._exchange(wanted)
        except Died as error:
            raise CalculatorError(
                f"interpreter: {self._interpreter}: {error}; it must be a Python with numpy and ase."
            ) from None
        if "error" in answer:
            raise CalculatorError(f"python: {order.factory} in {self._interpreter}: {answer['error']}")
        self.versions, self.batched = answer["versions"], answer["batched"]

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def label(self, frames: Sequence[Atoms], stress: bool) -> list[Prediction | str]:
        """Return what the far side says of each frame, or in its words why it says nothing. Raises Died."""
        told = self._exchange({"frames": [_plain(a) for a in frames], "stress": stress})
        return [_label(*each) for each in zip(told["labels"], frames, strict=True)]

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
            raise Died(self._last_words()) from None
        return answer

    def _last_words(self) -> str:
        processes.see_off(self._process)
        self._words.seek(0)
        last = " ".join(self._words.read()[-300:].split()) or "nothing"
        return f"its process ended with exit code {self._process.returncode}, having said: {last}"


def _hang_up(process: subprocess.Popen[str]) -> None:
    """Close the pipes: that is what the far side ends on. Whatever else it is doing, it is not waited for for long."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    processes.see_off(process)


def _plain(atoms: Atoms) -> dict[str, Any]:
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "info": {key: getattr(value, "tolist", lambda v=value: v)() for key, value in state_of(atoms).items()},
    }


def _label(answer: Mapping[str, Any], atoms: Atoms) -> Prediction | str:
    if "error" in answer:
        return str(answer["error"])
    tensor = None if answer["stress"] is None else of_plane(np.array(answer["stress"], dtype=float), atoms)
    forces = np.array(answer["forces"], dtype=float).reshape(-1, 3)
    return Prediction(answer["energy"], forces, tensor, shares(answer["energies"], answer["energy"], len(atoms)))


def _environment() -> dict[str, str]:
    """The environment, less what would lead another Python to our packages; a thread each, unless it says more."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {"OMP_NUM_THREADS": "1", **{key: value for key, value in os.environ.items() if key not in ours}}
