"""`simulate` is `ipip-mace md` for structures in memory: the same walks, files and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from alloy import cell, contents
from ase.build import bulk
from click.testing import CliRunner

from ipip_ext import errors, evaluate, open_run, simulate
from ipip_ext.api.options import DEFAULTS, MDOptions
from ipip_ext.cli.main import main
from ipip_ext.run.events import Event

EMT = {"python": "ase.calculators.emt:EMT"}
SHORT = {"time_ps": 0.02, "frame_every": 5}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_and_its_structures_walk_alike():
    """And as the command line has it: whatever begins a walk, another goes on with it."""
    ase.io.write("cells.extxyz", [cell(i, 0.02) for i in range(2)])
    options = {"temperatures_K": [300, (300, 600)], "replicas": 2, "seed": 5, "supercell": (2, 1, 1), **SHORT}
    first = simulate(EMT, "cells.extxyz", progress=False, **options)
    assert first.folder == Path("md/cells")
    other = simulate(EMT, ase.io.read("cells.extxyz", ":"), "other", progress=False, **options)
    for name in ("trajectory.extxyz", "log.csv"):
        assert (first.folder / name).read_bytes() == (other.folder / name).read_bytes()
    words = [
        "md", "python: ase.calculators.emt:EMT", "cells.extxyz", "--temperature-K", "300", "--temperature-K", "300:600",
        "--replicas", "2", "--seed", "5", "--supercell", "2", "1", "1", "--time-ps", "0.02", "--frame-every", "5",
        "--out", "third",
    ]  # fmt: skip
    printed = CliRunner().invoke(main, words, catch_exceptions=False).stdout
    assert Path("third/trajectory.extxyz").read_bytes() == first.trajectory.read_bytes()
    assert len(printed.splitlines()) == len(f"{first}\n".splitlines()) + 1


def test_what_it_came_to(finished_run):
    run = open_run(finished_run / "runs/tiny")
    done = simulate(run, cell(0, 0.02), progress=False, ensemble="nve", temperatures_K=400, **SHORT)
    assert done.folder == Path("md/AlCu3")
    assert done.summary == json.loads((done.folder / "summary.json").read_text())
    assert [walk["steps"] for walk in done.summary["walks"]] == [20]
    frames = done.frames()
    assert len(frames) == 4
    assert (done.trajectory, done.log) == (done.folder / "trajectory.extxyz", done.folder / "log.csv")
    errors_found = evaluate(run, frames, energy_key="energy", forces_key="forces")
    assert errors_found["force_mae_meV_per_A"] < 0.1  # the frames hold the model's own labels
    assert str(done).startswith("replica")
    assert "<pre>replica" in done._repr_html_()


def test_a_finished_walk_is_not_walked_again():
    seen: list[Event] = []
    first = simulate(EMT, bulk("Cu", cubic=True), progress=seen.append, **SHORT)
    assert {event.kind for event in seen} >= {"stage", "progress"}
    before = contents(first.folder)
    seen.clear()
    assert simulate(EMT, bulk("Cu", cubic=True), progress=seen.append, **SHORT) == first
    assert (seen, contents(first.folder)) == ([], before)
    with pytest.raises(errors.WorkspaceError, match="holds other MD: seed is 0 there and 1 here"):
        simulate(EMT, bulk("Cu", cubic=True), seed=1, **SHORT)


def test_threads_and_structures_stay_as_they_were():
    threads, atoms = torch.get_num_threads(), cell(3)
    copy = atoms.copy()
    simulate(EMT, atoms, progress=False, threads=threads + 1, **SHORT)
    assert torch.get_num_threads() == threads
    assert atoms == copy
    assert atoms.calc is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature_K": 300}, "md: temperature_K is unknown. Did you mean temperatures_K"),
        ({"ensemble": "nptt"}, "md: ensemble"),
        ({"timestep_fs": 0}, "md: timestep_fs: must be greater than 0"),
        ({"time_ps": float("inf")}, "md: time_ps"),
        ({"time_ps": "long"}, "md: time_ps: must be a valid number, not 'long'"),
        ({"threads": 0}, "md: threads"),
        ({"supercell": (2, 2)}, "md: supercell"),
        ({"supercell": (0, 1, 1)}, "md: supercell"),
        ({"temperatures_K": []}, "md: temperatures_K"),
        ({"pressure_GPa": 1.0}, "pressure_GPa needs ensemble npt"),
        ({"guard": {"max_force": 3}}, "guard.max_force is unknown"),
        ({"n_steps": 5}, "md: n_steps is unknown"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(options, words):
    with pytest.raises(errors.RecipeError) as refused:
        simulate(EMT, bulk("Cu", cubic=True), **options)
    assert words in str(refused.value)
    assert not Path("md").exists()


def test_wrong_structures_are_refused():
    slab = bulk("Cu", cubic=True)
    slab.pbc = (True, True, False)
    with pytest.raises(errors.DataError, match="structures: structure 0 is not periodic along cell vector 3"):
        simulate(EMT, slab, supercell=(1, 1, 2))
    broken = bulk("Cu", cubic=True)
    broken.positions[0, 0] = np.inf
    for structure in ([], broken):
        with pytest.raises(errors.DataError):
            simulate(EMT, structure)
    assert not Path("md").exists()


def test_the_options_of_python_and_of_the_command_line_are_one():
    assert DEFAULTS.keys() == MDOptions.__annotations__.keys()
    flags = {"temperatures": "temperatures_K", "limits": "guard"}
    told = {flags.get(option.name, option.name): option for option in main.commands["md"].params}
    assert DEFAULTS.keys() == told.keys() - {"model", "structure", "out", "trust_models"}
    for name, default in DEFAULTS.items():
        if name not in flags.values():
            assert told[name].default == default or not (told[name].default or default), name
