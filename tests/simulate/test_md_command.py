"""`ipip-mace md`: right physics, files that say so, exact resume, and refusals in time."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from alloy import assert_refused, cell
from ase import units
from ase.build import bulk, fcc111
from click.testing import CliRunner
from strangers import Evil, of_another

from ipip_ext import load_calculator
from ipip_ext.cli.main import main
from ipip_ext.run import lock
from ipip_ext.simulate.files import degrees_of_freedom
from ipip_ext.simulate.summary import block_error

EMT = "python: ase.calculators.emt:EMT"
KILLABLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
    "from ipip_ext.md import engine; engine.COMMIT_EVERY_S = 0.05\n"
    "from ipip_ext.cli.main import main; main()"
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with structures."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("cu.vasp", bulk("Cu", cubic=True))
    ase.io.write("cells.extxyz", [cell(i, 0.02) for i in range(3)])
    ase.io.write("gold.extxyz", bulk("Au"))
    slab = fcc111("Cu", (1, 1, 3), vacuum=8.0)
    slab.info.clear()
    ase.io.write("slab.extxyz", slab)
    ase.io.write("iron.extxyz", bulk("Fe"))
    Path("notes.txt").write_text("no structure at all\n")
    return tmp_path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(main, ["md", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def log(folder: Path | str) -> dict[str, np.ndarray]:
    """Return the columns of the log."""
    with (Path(folder) / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([row[name] if name == "replica" else float(row[name]) for row in rows]) for name in rows[0]}


def summary(folder: Path | str) -> dict:
    return json.loads((Path(folder) / "summary.json").read_text())


def test_a_student_walks_and_conserves_its_energy(finished_run):
    """Named by its run, its folder or its file, and as it labels the frames itself."""
    student = finished_run / "runs/tiny"
    options = ("--ensemble", "nve", "--time-ps", 0.1, "--temperature-K", 400, "--frame-every", 1)
    for out, model in {"run": student, "folder": student / "model", "file": student / "model/student.model"}.items():
        said = run(model, "cells.extxyz@:2", *options, "--out", out)
        assert f"{out}: trajectory.extxyz, log.csv, summary.json" in said
    frames = {out: ase.io.read(f"{out}/trajectory.extxyz", ":") for out in ("run", "folder", "file")}
    assert [len(each) for each in frames.values()] == [200] * 3
    for one, two, three in zip(*frames.values(), strict=True):
        assert one == two
        assert np.allclose(one.positions, three.positions, atol=1e-3)
    calculator = load_calculator(student)
    for frame in frames["run"][::50]:
        said, atoms = (frame.get_potential_energy(), frame.get_forces()), frame.copy()
        atoms.calc = calculator
        assert said[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        assert np.allclose(said[1], atoms.get_forces(), atol=1e-3)
        assert frame.info["md_time_fs"] == frame.info["md_step"]

    logged, walks = log("run"), summary("run")["walks"]
    assert [walk["replica"] for walk in walks] == sorted(set(logged["replica"])) == ["seed0-md00", "seed0-md01"]
    for walk in walks:
        own = logged["replica"] == walk["replica"]
        total, potential = logged["total_energy_eV"][own], logged["potential_energy_eV"][own]
        assert total.std() < 0.05 * potential.std()
        slope = np.polyfit(logged["time_ps"][own], total / walk["n_atoms"], 1)[0] * 1e6
        assert walk["nve_drift_meV_per_atom_per_ns"] == pytest.approx(slope)
        assert (walk["steps"], walk["frames"], walk["stops"]) == (100, 100, [])
    kinetic = 0.5 * (3 * 4 - 3) * units.kB * logged["kinetic_temperature_K"]
    assert np.allclose(logged["kinetic_energy_eV"], kinetic, atol=1e-5)


@pytest.mark.parametrize("ensemble", ["nvt", "nvt_bussi"])
def test_a_thermostat_reaches_its_temperature(ensemble):
    """Over the degrees of freedom that it heats, which differ much for four atoms."""
    said = run(
        EMT, "cu.vasp", "--ensemble", ensemble, "--temperature-K", 300, "--temperature-K", 200, "--time-ps", 4,
        "--timestep-fs", 4, "--friction-per-fs", 0.05, "--frame-every", 5, "--initial-temperature-factor", 2,
    )  # fmt: skip
    for walk, target_K in zip(summary("md/cu")["walks"], (300, 200), strict=True):
        mean, error = walk["kinetic_temperature_K"].values()
        assert error < 0.1 * target_K
        assert mean == pytest.approx(target_K, abs=4 * error)
        assert f"{mean:.1f} ± {error:.1f}" in said
    speed = summary("md/cu")["speed"]
    assert speed["replica_steps"] == 2000
    assert speed["ns_per_day"] == pytest.approx(speed["replica_steps_per_s"] * 86400 * 4e-6)
    assert not Path("md/cu/walk").exists()


def test_degrees_of_freedom():
    """Those that a sum over velocities finds where the centre of mass rests, and all where a thermostat moves it."""
    copper = bulk("Cu", cubic=True)
    counts = [degrees_of_freedom(copper, name) for name in ("nve", "nvt_bussi", "nvt_langevin", "npt")]
    assert counts == [9, 9, 12, 12]
    assert degrees_of_freedom(bulk("Cu"), "nve") == 3


def test_npt_tells_volume_and_pressure():
    run(EMT, "cu.vasp", "--ensemble", "npt", "--pressure-GPa", 5, "--time-ps", 0.3, "--timestep-fs", 3, "--supercell",
        2, 1, 1, "--barostat-time-fs", 100, "--temperature-K", "100:400", "--frame-every", 10)  # fmt: skip
    logged, frames = log("md/cu"), ase.io.read("md/cu/trajectory.extxyz", ":")
    assert len(frames) == 10
    assert np.ptp(logged["volume_A3"]) > 0.1
    for index, frame in enumerate(frames):
        volume = frame.get_volume()
        pressure = 2 * logged["kinetic_energy_eV"][index] / 3 / volume - np.trace(frame.get_stress(voigt=False)) / 3
        assert (logged["volume_A3"][index], logged["pressure_GPa"][index]) == pytest.approx(
            (volume, pressure / units.GPa), rel=1e-3
        )
        assert frame.info["temperature_K"] == pytest.approx(100 + 30 * (index + 1))
    (walk,) = summary("md/cu")["walks"]
    assert (walk["target"], walk["kinetic_temperature_K"], walk["n_atoms"]) == ("100 to 400", None, 8)


def test_a_walk_that_runs_wild_is_told_of():
    said = run(
        EMT, "cu.vasp", "--timestep-fs", 60, "--time-ps", 60, "--temperature-K", 900, "--frame-every", 1,
        "--restarts", 1,
    )  # fmt: skip
    (walk,) = summary("md/cu")["walks"]
    assert [stop["restarted"] for stop in walk["stops"]] == [True, False]
    assert walk["steps"] == walk["stops"][-1]["md_step"] < 1000
    for stop in walk["stops"]:
        assert f"stopped: {stop['sentence']}" in said
        assert stop["sentence"] in Path("md/cu/log.txt").read_text()


def test_where_nothing_walks_there_is_no_summary():
    done = CliRunner().invoke(main, ["md", EMT, "cu.vasp", "--guard", "max_temperature_factor=0.1"])
    assert done.exit_code == 1
    assert "no frame was kept. seed0-md00 (start start0, 300 K) stopped at step 0: the kinetic" in done.stderr
    assert not Path("md/cu/summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_walk_goes_on_and_ends_the_same(signum):
    command = [
        "md", EMT, "cells.extxyz", "--time-ps", "1.6", "--timestep-fs", "4", "--frame-every", "3", "--replicas", "2",
    ]  # fmt: skip
    run(*command[1:], "--out", "whole")
    folder = Path("md/cells")
    process = subprocess.Popen([sys.executable, "-c", KILLABLE, *command], stderr=subprocess.PIPE, text=True)
    while not (folder / "walk/written.json").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signum)
    said = process.communicate()[1]
    left = len((folder / "trajectory.extxyz").read_text())
    assert 0 < left < len(Path("whole/trajectory.extxyz").read_text())
    assert not (folder / "summary.json").exists()
    if signum == signal.SIGINT:
        assert process.returncode == 130
        assert "To go on: ipip-mace md " in said
        assert "Traceback" not in said
        assert not (folder / "lock.json").exists()
    with (folder / "trajectory.extxyz").open("a") as file:
        file.write("4\nhalf a fra")  # as a kill in the middle of writing leaves it
    run(*command[1:])
    for name in ("trajectory.extxyz", "log.csv"):
        assert (folder / name).read_bytes() == (Path("whole") / name).read_bytes()
    assert summary(folder)["walks"] == summary("whole")["walks"]


def test_a_folder_holds_one_simulation():
    options = (EMT, "cu.vasp", "--time-ps", 0.02)
    first = run(*options)
    before = Path("md/cu/trajectory.extxyz").stat().st_mtime_ns
    Path("cu.vasp").rename("moved.vasp")  # it is the content that counts
    assert run(EMT, "moved.vasp", "--time-ps", 0.02, "--out", "md/cu") == first
    assert Path("md/cu/trajectory.extxyz").stat().st_mtime_ns == before
    Path("moved.vasp").rename("cu.vasp")
    assert_refused(("md/cu", "n_steps is 20 there and 30 here", "--out"), "md", EMT, "cu.vasp", "--time-ps", 0.03)
    assert_refused(("structure_sha256",), "md", EMT, "gold.extxyz", "--time-ps", 0.02, "--out", "md/cu")
    assert_refused(("not empty", "--out"), "md", *options, "--out", "md")
    with lock.held(Path("md/cu")):
        assert_refused(("is in use by process", str(os.getpid())), "md", *options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((EMT, "nowhere.cif"), ("nowhere.cif", "no such file")),
        ((EMT, "notes.txt"), ("notes.txt",)),
        ((EMT, "cells.extxyz@7"), ("cells.extxyz@7", "none of its 3 structures")),
        ((EMT, "cells.extxyz@5:9"), ("none of its 3",)),
        ((EMT, "cells.extxyz@last"), ("a number or a slice",)),
        ((EMT, "iron.extxyz"), ("start0", "the model fails for it", "Fe")),
        (("no-such-model", "cu.vasp"), ("no-such-model", "name a run folder")),
        (("{lammps: [", "cu.vasp"), ("name a run folder",)),
        ((EMT, "slab.extxyz", "--ensemble", "npt"), ("npt", "periodic in all three")),
        ((EMT, "cu.vasp", "--pressure-GPa", 1), ("pressure_GPa needs ensemble npt",)),
        ((EMT, "slab.extxyz", "--supercell", 1, 1, 2), ("not periodic along cell vector 3",)),
        ((EMT, "cu.vasp", "--temperature-K", "hot"), ("temperature-K hot", "300:900")),
        ((EMT, "cu.vasp", "--temperature-K", "-5"), ("temperatures_K", "greater than 0")),
        ((EMT, "cu.vasp", "--temperature-K", "1:2:3"), ("two with a colon",)),
        ((EMT, "cu.vasp", "--temperature-K", "300:600", "--ensemble", "nve"), ("no thermostat",)),
        ((EMT, "cu.vasp", "--time-ps", 0.0001), ("less than one step",)),
        ((EMT, "cu.vasp", "--time-ps", "inf"), ("finite",)),
        ((EMT, "cu.vasp", "--time-ps", 0.01, "--frame-every", 11), ("frame_every is larger than n_steps",)),
        ((EMT, "cu.vasp", "--guard", "max_force"), ("guard max_force", "KEY=VALUE")),
        ((EMT, "cu.vasp", "--guard", "max_force=3"), ("guard.max_force is unknown", "max_force_eV_per_A")),
        ((EMT, "cu.vasp", "--device", "cuda:99"), ("cuda:99",)),
        ((EMT, "cu.vasp", "--out", "notes.txt"), ("notes.txt", "is a file")),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(arguments, words):
    assert_refused(words, "md", *arguments)
    assert not Path("md").exists()


def test_elements_that_the_student_does_not_know(finished_run):
    assert_refused(("start0", "does not know Au", "Al, Cu"), "md", finished_run / "runs/tiny", "gold.extxyz")


def test_a_model_file_of_another_user(monkeypatch):
    torch.save(Evil(Path("ran").absolute()), "evil.model")
    with monkeypatch.context() as patch:
        of_another(patch)
        assert_refused(("evil.model", "--trust-models"), "md", "evil.model", "cu.vasp")
    assert not Path("ran").exists()


def test_block_errors_know_of_correlation():
    noise = np.random.default_rng(0).normal(size=20_000)
    assert block_error(noise) == pytest.approx(1 / np.sqrt(len(noise)), rel=0.5)
    walk = np.zeros_like(noise)
    for index in range(1, len(walk)):
        walk[index] = 0.9 * walk[index - 1] + noise[index]
    assert block_error(walk) == pytest.approx(10 / np.sqrt(len(noise)), rel=0.5)  # sum of its autocovariances: 100
    assert block_error(noise[:7]) is None
