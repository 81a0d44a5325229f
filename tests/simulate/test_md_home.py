"""A walk out of what a student has learnt: told of in its files, warned of once, and stopped where that is wanted."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloy import assert_refused, cell
from click.testing import CliRunner
from molecule import label, near, train_student, turned

from ipip_ext import load_calculator, load_potential, simulate
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.errors import WorkspaceError
from ipip_ext.measure.home import rank_correlation
from ipip_ext.potentials.home import FAR

EMT = "python: ase.calculators.emt:EMT"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    """The folder of a student of formic acid near its minimum."""
    pytest.importorskip("tblite")
    return train_student(tmp_path_factory.mktemp("molecule"))


def md(*arguments: object) -> str:
    done = CliRunner().invoke(main, ["md", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def log(folder: str) -> list[dict[str, str]]:
    with (Path(folder) / "log.csv").open() as file:
        return list(csv.DictReader(file))


def summary(folder: str) -> dict:
    return json.loads((Path(folder) / "summary.json").read_text())


@pytest.mark.slow
def test_a_molecule_is_at_home_until_it_is_turned_about_a_bond(student):
    """And where it is not its forces are wrong, though nothing else about it is odd."""
    potential = load_potential(student)
    like_training = [near(1000 + seed) for seed in range(100)]
    inside = [one.max() <= 1 for one in potential.home_distances(like_training)]
    assert np.mean(inside) > 0.8
    frames = [turned(angle) for angle in range(0, 181, 15)]
    said = potential.compute(frames)
    distances = np.array([one.home_distances.max() for one in said])
    errors = [np.abs(p.forces_eV_per_A - label(f).arrays[fr.FORCES]).mean() for p, f in zip(said, frames, strict=True)]
    assert distances[0] < 0.8
    assert distances[6] > 2  # at a right angle
    assert np.all(np.diff(distances[2:10]) > 0)
    assert rank_correlation(distances, np.array(errors)) > 0.7
    assert errors[6] > 5 * errors[0]
    assert load_calculator(student).get_property("home_distance", frames[6]) == pytest.approx(distances[6], rel=1e-3)


@pytest.mark.slow
def test_a_walk_tells_where_it_leaves_home(student):
    ase.io.write("acid.extxyz", [near(5, 0.01), turned(90)])
    options = (student, "acid.extxyz", "--time-ps", 0.04, "--timestep-fs", 0.5, "--frame-every", 4, "--ensemble", "nve",
               "--temperature-K", 100)  # fmt: skip
    said = md(*options, "--out", "told")
    rows, frames = log("told"), ase.io.read("told/trajectory.extxyz", ":")
    assert len(rows) == len(frames) > 20
    potential = load_potential(student)
    for row, frame in zip(rows, frames, strict=True):
        (distances,) = potential.home_distances([frame])
        assert float(row["home_distance"]) == pytest.approx(distances.max(), abs=2e-3)
        assert row["home_farthest_atom"] == str(distances.argmax())
        assert int(row["home_atoms_outside"]) == (distances > 1).sum()
        assert np.allclose(frame.arrays["home_distances"], distances, atol=2e-3)
    near_home, turned_away = (walk["home"] for walk in summary("told")["walks"])
    assert (near_home["frames_looked_at"], near_home["frames_outside"]) == (20, 0)
    assert near_home["first_outside_step"] is None
    assert turned_away["frames_outside"] == turned_away["frames_looked_at"] == len(rows) - 20
    assert turned_away["first_outside_step"] == 4
    assert turned_away["first_outside_ps"] == pytest.approx(0.002)
    assert sum(one["frames"] for one in turned_away["farthest_atoms"]) == len(rows) - 20
    words = (
        f"outside of what the model has learnt (home distance above 1): {len(rows) - 20} of {len(rows)} frames, first"
    )
    assert f"{words} at 0.002 ps in seed0-md01; farthest there: atom" in said
    noted = [line for line in Path("told/log.txt").read_text().splitlines() if "warning: " in line]
    assert len(noted) == 1
    assert "seed0-md01 (start HCOOH) is outside of what the model has learnt: at step 4 atom" in noted[0]

    ignored = md(*options, "--out", "ignored", "--on-unknown", "ignore")
    assert "home" not in ignored
    assert summary("ignored")["walks"][1]["home"] is None
    assert list(log("ignored")[0]) == [name for name in rows[0] if not name.startswith("home_")]
    assert [row["total_energy_eV"] for row in log("ignored")] == [row["total_energy_eV"] for row in rows]


@pytest.mark.slow
def test_a_walk_stops_where_nothing_is_known(student):
    """With all its files; the one beside it goes on, and it does not begin again."""
    ase.io.write("acid.extxyz", near(5, 0.01))
    options = {"time_ps": 0.05, "timestep_fs": 0.5, "frame_every": 5, "ensemble": "nve", "temperatures_K": [300, 3000]}
    done = simulate(student, "acid.extxyz", "stopped", progress=False, on_unknown="stop", restarts=2, **options)
    stays, leaves = done.summary["walks"]
    assert (stays["steps"], stays["stops"]) == (100, [])
    (stop,) = leaves["stops"]
    assert (stop["reason"], stop["restarted"], stop["limit"]) == ("unknown", False, FAR)
    assert stop["value"] > FAR
    assert leaves["steps"] == stop["md_step"] < 100
    assert "far outside of what the model has learnt (limit 2)" in stop["sentence"]
    assert stop["sentence"] in str(done)
    own = [frame for frame in done.frames() if frame.info["replica"] == leaves["replica"]]
    assert own[-1].info["md_step"] == stop["md_step"]  # the frame that shows it is kept
    assert own[-1].arrays["home_distances"].max() == pytest.approx(stop["value"], abs=1e-3)
    assert all(frame.arrays["home_distances"].max() <= FAR for frame in own[:-1])
    again = simulate(student, "acid.extxyz", "stopped", progress=False, on_unknown="stop", restarts=2, **options)
    assert again.summary == done.summary
    with pytest.raises(WorkspaceError, match="stopped: holds other MD"):  # which went on where this one ends
        simulate(student, "acid.extxyz", "stopped", progress=False, restarts=2, **options)


def test_who_can_not_tell_is_not_asked_to_stop(finished_run):
    ase.io.write("cu.extxyz", cell(0, 0.02))
    words = ("can't tell where it has learnt nothing", "take warn", "home.safetensors")
    assert_refused(words, "md", EMT, "cu.extxyz", "--on-unknown", "stop")
    old = Path(shutil.copytree(finished_run / "runs/tiny/model", "old"))
    (old / "home.safetensors").unlink()
    assert_refused(words, "md", old, "cu.extxyz", "--on-unknown", "stop")
    md(old, "cu.extxyz", "--time-ps", 0.02)
    assert "student can't tell where it has learnt nothing" in Path("md/cu/log.txt").read_text()
    assert "home_distance" not in log("md/cu")[0]


def test_an_alloy_s_student_tells_of_its_walk(finished_run):
    run = finished_run / "runs/tiny"
    ase.io.write("cells.extxyz", [cell(0, 0.02), cell(1, 0.5)])
    md(run, "cells.extxyz", "--time-ps", 0.02, "--timestep-fs", 1, "--frame-every", 1)
    homes = [walk["home"] for walk in summary("md/cells")["walks"]]
    assert homes[0]["largest_distance"] < homes[1]["largest_distance"]
    assert homes[1]["frames_outside"] > homes[0]["frames_outside"]


def test_a_walk_that_an_older_version_has_begun_goes_on_with_its_columns(finished_run):
    """Its log has no column for it, and a table has one head."""
    from ipip_ext.md.replicas import plan_replicas
    from ipip_ext.simulate.files import Written
    from ipip_ext.simulate.plan import settings_of

    run = finished_run / "runs/tiny"
    start = cell(0, 0.02)
    settings = settings_of("x", time_ps=0.01, timestep_fs=1.0, frame_every=5)
    (Path("md") / "walk").mkdir(parents=True)
    head = "step,time_ps,replica,potential_energy_eV\n"
    Path("md/log.csv").write_text(head)
    Path("md/trajectory.extxyz").touch()
    told = {"segments": 0, "n_frames": 0, "bytes": {"log.csv": len(head), "trajectory.extxyz": 0}}
    Path("md/walk/written.json").write_text(json.dumps(told))
    watch = lambda frame: load_potential(run).home_distances([frame])[0]  # noqa: E731
    written = Written(Path("md"), "walk", plan_replicas([start], settings, 0, "seed0"), settings, watch)
    assert written.watch is None
