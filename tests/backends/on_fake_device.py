"""What tests/test_device.py asks of a process that has the device of tests/fake_device.py; prints JSON.

python tests/on_fake_device.py FOLDER    # which holds recipe.yaml and what that names
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import fake_device
import numpy as np
import torch

from ipip_ext import load_calculator
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.run import device
from ipip_ext.teachers.load import load_potential


def run(folder: Path) -> dict[str, object]:
    """Run the recipe of `folder` with everything on the device."""
    device.resolve = lambda _wanted: fake_device.NAME
    with contextlib.chdir(folder), contextlib.redirect_stdout(sys.stderr):
        main(["run", "recipe.yaml"], standalone_mode=False)
    return {"calls": sum(fake_device.CALLS.values())}


def md_steps(folder: Path) -> dict[str, object]:
    """Count what travels in twenty steps of a finished student's MD."""
    frames = fr.read_frames(folder / "data/train.extxyz")
    potential = load_potential(folder / "runs/tiny", fake_device.NAME)
    session, positions = potential.session(frames), np.concatenate([frame.positions for frame in frames])
    session.compute(positions)
    fake_device.CALLS.clear()
    for step in range(20):
        session.compute(positions + 1e-4 * step)
    return {name: fake_device.CALLS[name] for name in ("transfer", "aten::nonzero", "aten::_local_scalar_dense")}


def differences(folder: Path) -> dict[str, object]:
    """Compare forces there and on the CPU: of the student and its committee, eV/A."""
    frame = fr.read_frames(folder / "data/test.extxyz")[0]
    found = {}
    for name, options in (("student", {}), ("committee", {"committee": True})):
        here, there = (load_calculator(folder / "runs/tiny", at, **options) for at in ("cpu", fake_device.NAME))
        found[name] = float(np.abs(here.get_forces(frame) - there.get_forces(frame)).max())
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    fake_device.plug_in()
    where = Path(sys.argv[1])
    sys.stdout.write(json.dumps({ask.__name__: ask(where) for ask in (run, md_steps, differences)}) + "\n")
