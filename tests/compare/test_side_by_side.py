"""A grid whose runs go side by side is the grid one by one, and waits for what its runs share."""

from __future__ import annotations

import csv
import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alloy import write_alloy, write_recipe
from processes import children

from ipip_ext.compare.side_by_side import next_of
from ipip_ext.errors import Diverged, StageFailed, UserError, WorkspaceError, raised
from ipip_ext.run.events import read_events

GRID = Path("runs/tiny-ablate")
VARY = ("--vary", "finetune.lr=0.003,0.01", "--seeds", "2")
TWO = {"place": "processes", "workers": 2}
MODULE = "ipip_ext.compare.run_process"


def run_of(folder: Path, seed: int, *keys: str) -> Any:
    variant = SimpleNamespace(values=dict.fromkeys(keys or ("finetune.lr",), "1"))
    return SimpleNamespace(recipe=SimpleNamespace(seed=seed), folder=folder, variant=variant)


def test_the_first_of_each_seed_goes_before_those_that_share_its_stages(tmp_path):
    runs = [run_of(tmp_path / f"{seed}-{i}", seed) for seed in (3, 4) for i in range(2)]
    assert next_of([0, 1, 2, 3], {}, runs) == 0
    assert next_of([1, 2, 3], {0: ()}, runs) == 2
    assert next_of([1, 3], {0: (), 2: ()}, runs) is None
    assert next_of([1, 3], {2: ()}, runs) == 1  # the first of its seed is finished
    (tmp_path / "4-0/iter-00/finetune.part").mkdir(parents=True)
    assert next_of([1, 3], {0: (), 2: ()}, runs) == 3  # they part there
    assert next_of([1, 3], {2: ()}, runs) == 1  # what shares all goes before what shares a part


@pytest.mark.parametrize("key", ["iterations", "baselines", "evaluate.stability"])
def test_what_shares_all_that_is_trained_waits_for_the_end(tmp_path, key):
    runs = [run_of(tmp_path / str(i), 3, key) for i in range(2)]
    (tmp_path / "0/iter-00/finetune.part").mkdir(parents=True)
    assert next_of([1], {0: ()}, runs) is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("WorkspaceError", WorkspaceError), ("Diverged", Diverged), ("ValueError", StageFailed), ("Any", StageFailed)],
)
def test_an_error_of_another_process_is_raised_as_here(kind, expected):
    error = raised(kind, "iter-00: what happened")
    assert type(error) is expected
    assert "iter-00: what happened" in str(error)
    assert isinstance(error, UserError) == (kind == "WorkspaceError")


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "ipip_ext.cli", "ablate", "recipe.yaml", *VARY, *more]


def grid_in(folder: Path, **changes: object) -> Path:
    (folder / "data").mkdir(parents=True)
    write_alloy(folder / "data")
    asked: dict[str, object] = {"iterations": 1, "baselines": [{"kind": "teacher"}], "pretrain__epochs": 1}
    write_recipe(folder, Path("data"), **asked | changes)
    return folder


def ran(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*more), cwd=folder, capture_output=True, text=True)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / GRID / "ablate.csv").open() as file:
        return [{k: v for k, v in row.items() if "_ms" not in k and "wall" not in k} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_side_by_side_is_one_by_one(tmp_path):
    """With MLflow, whose store all runs share; and times are taken when nothing else is at work."""
    alone = grid_in(tmp_path / "alone", compute={"place": "here"})
    beside = grid_in(tmp_path / "beside", compute=TWO)
    for folder in (alone, beside):
        done = ran(folder)
        assert done.returncode == 0, done.stderr
    assert table(alone) == table(beside)
    assert weights(alone) == weights(beside)
    assert len(weights(alone)) > 8
    assert done.stderr.count("to be timed") == 4
    spans = sorted(span for folder in (beside / GRID).glob("*/seed-*") for span in timed(folder))
    assert len(spans) == 4
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
    assert not any(one[0] < ended < one[1] for one in spans for ended in others(beside / GRID))


def weights(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in (folder / GRID).rglob("*.safetensors")}


def timed(folder: Path) -> list[tuple[float, float]]:
    """Return when the run in `folder` began and ended to take times."""
    at = {
        event.name: event.time
        for event in read_events(folder / "events.jsonl")
        if event.stage == "speed" and event.kind == "stage"
    }
    return [(at["started"], at["finished"])]


def others(grid: Path) -> list[float]:
    """Return when stages of all runs ended that are not timed."""
    events = [event for path in grid.glob("*/seed-*/events.jsonl") for event in read_events(path)]
    return [e.time for e in events if e.kind == "stage" and e.name == "finished" and e.stage not in ("speed", "report")]


@pytest.mark.slow
def test_it_stops_when_it_is_asked_to_and_goes_on(tmp_path):
    folder = grid_in(tmp_path / "grid", tracking__enabled=False, pretrain__epochs=60, compute=TWO)
    process = subprocess.Popen(command(), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while len(list((folder / GRID).glob("*/seed-*/iter-00/pretrain.part"))) < 2:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    at_work = children(process.pid, MODULE)
    assert len(at_work) == 2
    process.send_signal(signal.SIGTERM)
    told = process.communicate()[1]
    assert process.returncode == 143
    assert "Traceback" not in told
    assert "To go on: " in told
    assert not any(Path(f"/proc/{pid}").exists() for pid in at_work)
    assert not list((folder / GRID).rglob("lock.json"))
    done = ran(folder)
    assert done.returncode == 0, done.stderr
    assert len(table(folder)) > 8


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_kept(tmp_path):
    folder = grid_in(tmp_path / "grid", tracking__enabled=False, compute=TWO)
    words = [*command()[:-4], "--vary", "finetune.lr=0.003,900.0", "--seeds", "1"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "finetune.lr=900.0, seed 3: " in last
    assert "Traceback" not in done.stderr
    first = folder / GRID / "finetune.lr=0.003/seed-3"
    assert (first / "model").is_dir()
    assert (first / "iter-00/finetune/stage.json").exists()
