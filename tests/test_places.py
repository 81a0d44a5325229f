"""Wherever its stages are computed, a run makes the same files, says the same things and fails in the same words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alloy import ROOT
from placed import RUN, assert_equal, begun, ended, on_cluster, place, ran, recipe_in, said, wait_until
from processes import at_work_in

from ipip_ext.check.status import status
from ipip_ext.errors import JobLost
from ipip_ext.run import job
from ipip_ext.run.events import read_events

pytestmark = pytest.mark.slow

COMMITTEE = {"label__policy": "committee", "committee__export": True, "committee__size": 3}
BOUGHT = {
    "label__reference": {
        "calculator": {"python": "ase.calculators.emt:EMT"}, "budget": 4, "frames_per_job": 1,
    }
}  # fmt: skip
ENOUGH = {"pretrain__epochs": 150}
"""For a kill in the middle."""


@pytest.fixture(scope="module")
def at_home(tmp_path_factory) -> Path:
    """The finished run in a single process, of a committee that has a say and labels that are bought."""
    folder = recipe_in(tmp_path_factory.mktemp("here"), **COMMITTEE, **BOUGHT, compute={"place": "here"})
    done = ran(folder)
    assert done.returncode == 0, done.stderr
    return folder / RUN


@pytest.mark.parametrize("kind", ["processes", "parsl"])
def test_a_place_decides_no_result(tmp_path, at_home, kind):
    recipe_in(tmp_path, **COMMITTEE, **BOUGHT, **place(kind, tmp_path))
    done = ran(tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / RUN, at_home)
    assert said(tmp_path / RUN) == said(at_home)
    left = [path.name for path in (tmp_path / RUN).rglob("*") if path.name.endswith((".job", ".part", ".parts"))]
    assert not left
    assert not (tmp_path / RUN / "jobs.json").exists()


def test_a_run_goes_on_at_another_place(tmp_path, at_home):
    """What was computed here is reused there; a place is no change of the recipe."""
    recipe_in(tmp_path, **COMMITTEE, **BOUGHT, compute={"place": "here"})
    process = begun(tmp_path)
    wait_until(process, tmp_path, (tmp_path / RUN / "iter-00/finetune").exists)
    process.kill()
    ended(process, tmp_path)
    recipe_in(tmp_path, **COMMITTEE, **BOUGHT, **place("processes", tmp_path))
    done = ran(tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / RUN, at_home)


@pytest.fixture(scope="module")
def long_at_home(tmp_path_factory) -> Path:
    folder = recipe_in(tmp_path_factory.mktemp("long"), **ENOUGH, iterations=1, compute={"place": "here"})
    assert ran(folder).returncode == 0
    return folder / RUN


def kill_worker(folder: Path) -> None:
    """Kill who computes the first pretraining, as soon as there is something to go on from."""
    told = json.loads((folder / RUN / "iter-00/pretrain.job/running.json").read_text())
    assert told["pid"] != os.getpid()
    os.kill(told["pid"], signal.SIGKILL)


@pytest.mark.parametrize("kind", ["processes", "parsl"])
def test_a_stage_whose_worker_dies_goes_on_in_another(tmp_path, long_at_home, kind):
    recipe_in(tmp_path, **ENOUGH, iterations=1, **place(kind, tmp_path))
    process = begun(tmp_path)
    wait_until(process, tmp_path, (tmp_path / RUN / "iter-00/pretrain.part/fit/checkpoint.pt").exists)
    kill_worker(tmp_path)
    told = ended(process, tmp_path)
    assert process.returncode == 0, told
    assert_equal(tmp_path / RUN, long_at_home)
    notes = [e.name for e in read_events(tmp_path / RUN / "events.jsonl") if e.kind == "note"]
    assert [note for note in notes if "it goes on in another" in note]
    epochs = [
        e.step for e in read_events(tmp_path / RUN / "events.jsonl") if e.name == "train_loss" and "pre" in e.stage
    ]
    assert epochs.count(0) == 1


def test_workers_that_die_more_often_than_they_may_end_the_run(tmp_path):
    recipe_in(tmp_path, **ENOUGH, iterations=1, compute={"place": "processes", "workers": 1, "retries": 0})
    process = begun(tmp_path)
    wait_until(process, tmp_path, (tmp_path / RUN / "iter-00/pretrain.part/fit/checkpoint.pt").exists)
    kill_worker(tmp_path)
    told = ended(process, tmp_path)
    assert process.returncode == 1, told
    last = told.strip().splitlines()[-1]
    assert "iter-00/pretrain: its process (process " in last
    assert "ended with exit code -9. All that is finished is kept; the same command goes on." in last
    assert "Traceback" not in told


@pytest.mark.parametrize("kind", ["processes", "parsl"])
def test_what_a_killed_run_has_left_at_work_ends_and_the_next_goes_on(tmp_path, long_at_home, kind):
    recipe_in(tmp_path, **ENOUGH, iterations=1, **place(kind, tmp_path))
    process = begun(tmp_path)
    wait_until(process, tmp_path, (tmp_path / RUN / "iter-00/pretrain.part/fit/checkpoint.pt").exists)
    assert "running   iter-00/pretrain on" in str(status(tmp_path / RUN))
    at_work = json.loads((tmp_path / RUN / "iter-00/pretrain.job/running.json").read_text())["pid"]
    process.kill()
    ended(process, tmp_path)
    done = ran(tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / RUN, long_at_home)
    assert not Path(f"/proc/{at_work}").exists()
    until = time.monotonic() + 60  # nodes miss the run that was killed after some heartbeats
    while at_work_in(tmp_path) and time.monotonic() < until:
        time.sleep(0.1)
    assert not at_work_in(tmp_path)


@pytest.mark.parametrize("kind", ["processes", "parsl"])
def test_what_fails_there_fails_in_the_words_that_it_has_here(tmp_path, kind):
    """A stage that fails is told from a process that dies: it isn't tried again."""
    last = {}
    for where in ("here", kind):
        folder = recipe_in(
            tmp_path / where,
            explore__max_force_eV_per_A=1e-6,
            explore__temperatures_K=[600],
            **place(where, tmp_path / where),
        )
        done = ran(folder)
        assert done.returncode not in (0, 1), done.stderr
        last[where] = (done.returncode, done.stderr.strip().splitlines()[-1].replace(str(folder), ""))
    assert last["here"] == last[kind]
    events = [e.name for e in read_events(tmp_path / kind / RUN / "events.jsonl") if e.kind == "stage"]
    assert events.count("started") == len(set(events)) or "another" not in str(events)


# ---- executors that are not in order ----


def parsl_of(folder: Path, package: Path | None) -> str:
    """Return shell lines that give a worker another Python: one with `package`, or without ours."""
    site = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    own = folder / "bin"
    own.mkdir(exist_ok=True)
    real = Path(sys.executable).with_name("process_worker_pool.py").read_text().splitlines()
    base = Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name
    script = own / "process_worker_pool.py"
    script.write_text("\n".join([f"#!{base} -s", *real[1:]]))
    script.chmod(0o755)
    found = ":".join(map(str, [*([package] if package else []), site]))
    return f"export PATH={own}:$PATH PYTHONPATH={found}"


def refused(folder: Path, worker_init: str) -> str:
    recipe_in(folder, **on_cluster(folder, 1, worker_init=worker_init))
    done = ran(folder)
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback (most recent call last)\n" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_a_worker_without_the_package_is_refused(tmp_path):
    last = refused(tmp_path, parsl_of(tmp_path, None))
    assert "executor node: its Python has no ipip_ext; let worker_init load an environment with ipip-mace" in last


def test_a_worker_with_another_version_of_the_package_is_refused(tmp_path):
    import ipip_ext

    other = tmp_path / "other/ipip_ext"
    other.parent.mkdir()
    for path in (ROOT / "ipip_ext").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = other / path.relative_to(ROOT / "ipip_ext")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    init = (other / "__init__.py").read_text()
    assert f'"{ipip_ext.__version__}"' in init
    (other / "__init__.py").write_text(init.replace(f'"{ipip_ext.__version__}"', '"0.0.1"'))
    last = refused(tmp_path, parsl_of(tmp_path, other.parent))
    assert "0.0.1" in last
    assert ipip_ext.__version__ in last


def test_a_worker_that_does_not_see_the_run_folder_is_refused(tmp_path):
    """As of a node on which that file system is not mounted: here it hides below another one."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("hiding a folder needs root")
    own = tmp_path / "bin"
    own.mkdir()
    hidden = tmp_path / RUN
    real = Path(sys.executable).with_name("process_worker_pool.py")
    script = own / "process_worker_pool.py"
    script.write_text(
        f'#!/bin/sh\nexec unshare -m sh -c \'mount -t tmpfs none "{hidden}" && exec {real} "$@"\' sh "$@"\n'
    )
    script.chmod(0o755)
    last = refused(tmp_path, f"export PATH={own}:$PATH")
    assert f"do its nodes see {tmp_path / RUN}, and does worker_init load" in last


def test_a_folder_that_parsl_s_scripts_can_not_name_is_refused(tmp_path):
    folder = tmp_path / "my runs"
    done = ran(recipe_in(folder, **on_cluster(folder, 1)))
    assert done.returncode == 2, done.stderr
    assert f"{folder / RUN}: Parsl's scripts need a path without blanks; use --workdir." in done.stderr


def test_a_worker_waits_for_a_request_that_its_file_system_shows_late(tmp_path, monkeypatch):
    """And says which file it can't see once that has taken too long."""
    monkeypatch.setattr(job, "LATE_S", 0.3)
    with pytest.raises(JobLost, match=rf"doesn't see {tmp_path}/none/request\.json; jobs need a file system"):
        job.serve_here(str(tmp_path / "none/request.json"))
