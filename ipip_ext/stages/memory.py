"""Peak memory of MD with a model, on top of the loaded model itself.

On a CPU a process that has held another model has memory to reuse, so each model gets a fresh one.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from ipip_ext import md
from ipip_ext.errors import StageFailed
from ipip_ext.run.events import EventBus
from ipip_ext.run.processes import SideProcess
from ipip_ext.run.stage import Context
from ipip_ext.stages.evaluate import potential_of
from ipip_ext.stages.inputs import Calculator, Model, Student

_STEPS = 2
_MIB = 2**20


def is_elsewhere(model: Model) -> bool:
    """Return whether a model computes in processes of another interpreter, whose memory isn't ours to see."""
    entry = model.of.calculator if isinstance(model.of, Calculator) else None
    return isinstance(entry, Mapping) and "interpreter" in entry


def on_gpu(calculator: Any, cells: Sequence[Atoms], device: str) -> dict[int, float]:
    """Return by number of atoms the growth of what torch has allocated on `device`, MiB."""
    import torch

    found = {}
    for cell in cells:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _walk(calculator, cell)
        torch.cuda.synchronize(device)
        found[len(cell)] = round((torch.cuda.max_memory_allocated(device) - before) / _MIB, 2)
    return found


def on_cpu(model: Model, cells: Sequence[Atoms], home: Path) -> dict[int, float]:
    """Return by number of atoms the growth of the peak resident memory of a fresh process, MiB.

    cells: the smallest first. Raises StageFailed with the process's last words.
    """
    import torch

    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        ase.io.write(Path(folder) / "cells.extxyz", [_bare(cell) for cell in cells])
        told = {"model": model.fingerprint(), "home": str(home.resolve()), "threads": torch.get_num_threads()}
        job.write_text(json.dumps(told, default=str), encoding="utf-8")
        with SideProcess("ipip_ext.stages.memory", job) as process:
            if process.wait() != 0:
                raise StageFailed(f"the process that measures memory {process.fate}.")
        found = json.loads((Path(folder) / "memory.json").read_text(encoding="utf-8"))
    return {int(n_atoms): mib for n_atoms, mib in found.items()}


def main(job: Path) -> None:
    """Measure what `job` asks for and write memory.json beside it."""
    import torch

    told = json.loads(job.read_text(encoding="utf-8"))
    torch.set_num_threads(told["threads"])
    context = Context(job.parent, "memory", 0, "cpu", EventBus(), Path(told["home"]))
    calculator = potential_of(_model(told["model"]), context).calculator()
    before = _peak_mebibytes()
    found = {}
    for cell in ase.io.read(job.parent / "cells.extxyz", ":"):
        _walk(calculator, cell)
        found[len(cell)] = round(_peak_mebibytes() - before, 2)
    (job.parent / "memory.json").write_text(json.dumps(found), encoding="utf-8")


def _model(told: Mapping[str, Any]) -> Model:
    return Model(Calculator(**told) if "calculator" in told else Student(told["backend"], Path(told["model"])))


def _walk(calculator: Any, cell: Atoms) -> None:
    atoms = cell.copy()
    atoms.calc = calculator
    step = md.stepper(atoms)
    for _ in range(_STEPS):
        step()


def _bare(cell: Atoms) -> Atoms:
    return Atoms(cell.numbers, positions=cell.positions, cell=cell.cell, pbc=cell.pbc)


def _peak_mebibytes() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # Linux's ru_maxrss begins at that of the process which started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]))
