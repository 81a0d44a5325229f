"""Runs at other places: recipes that name one, the commands, and whether two runs are the same."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import yaml
from alloy import write_alloy, write_recipe

from ipip_ext.run.events import read_events

RUN = Path("runs/tiny")
MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
    "from ipip_ext.cli.main import main; main()"
)
CLI = (sys.executable, "-c", MAIN)
"""The command line, as a user at a terminal has it."""


def recipe_in(folder: Path, **changes: object) -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    write_alloy(folder / "data")
    write_recipe(folder, Path("data"), tracking__enabled=False, **changes)
    return folder


def on_cluster(folder: Path, workers: int, retries: int = 1, **provider: object) -> dict[str, object]:
    """Write a place file of one executor on this machine; return the changes of the recipe that name it."""
    node = {
        "class": "HighThroughputExecutor", "address": "127.0.0.1", "max_workers_per_node": workers,
        "cores_per_worker": 1, "heartbeat_period": 2, "heartbeat_threshold": 10,
        "provider": {"class": "LocalProvider", "init_blocks": 1, "max_blocks": 1} | provider,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "place.yaml").write_text(yaml.safe_dump({"executors": {"node": node}, "config": {"strategy_period": 1}}))
    return {"compute": {"place": "parsl", "parsl": "place.yaml", "retries": retries}}


def place(kind: str, folder: Path) -> dict[str, object]:
    """Return the changes of a recipe that name the place `kind`, with two workers."""
    if kind == "parsl":
        return on_cluster(folder, workers=2)
    return {"compute": {"place": kind, "workers": 2} if kind == "processes" else {"place": kind}}


def ran(folder: Path, verb: str = "run") -> subprocess.CompletedProcess[str]:
    """Return the finished command."""
    return subprocess.run([*CLI, verb, "recipe.yaml"], cwd=folder, capture_output=True, text=True)


def begun(folder: Path) -> subprocess.Popen[str]:
    """Return a run at work. It speaks to a file, since what it leaves at work when it is killed would keep a pipe."""
    with (folder / "said.txt").open("w") as file:
        return subprocess.Popen([*CLI, "run", "recipe.yaml"], cwd=folder, stdout=file, stderr=file, text=True)


def ended(process: subprocess.Popen[str], folder: Path) -> str:
    """Return what a run has said once it has ended."""
    process.wait()
    return (folder / "said.txt").read_text()


def wait_until(process: subprocess.Popen[str], folder: Path, done: Callable[[], object]) -> None:
    """Wait for a run at work in `folder`."""
    while not done():
        assert process.poll() is None, ended(process, folder)
        time.sleep(0.02)


def weights(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*.safetensors"))}


def records(run: Path) -> dict[str, object]:
    """Return what the stages' records say but for times and what times are in."""
    found = {}
    for path in sorted(run.rglob("stage.json")):
        told = json.loads(path.read_text())
        name = str(path.parent.relative_to(run))
        timed = name in ("speed", "report") or name.endswith("/speed")
        # TorchScript numbers what a process has compiled so far, and a native file holds those numbers
        outputs = {k: v for k, v in told["outputs"].items() if not timed and not v["file"].endswith(".model")}
        found[name] = (told["stage"], None if name == "report" else told["fingerprint"], outputs)
    return found


def said(run: Path) -> dict[str, list[str]]:
    """Return by stage what was said, but for times, reruns and how far it was."""
    found = defaultdict(list)
    for event in read_events(run / "events.jsonl"):
        if event.kind != "progress" and event.stage not in ("speed", "report", ""):
            value = None if "wall" in event.name or event.name == "epoch_s" else event.value
            found[event.stage].append(f"{event.kind} {event.name} {value}")
    return found


def tables(run: Path) -> list[list[str]]:
    rows = [line.split(",") for line in (run / "compare.csv").read_text().splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if not name.endswith(("_s", "_ms")) and "ms_per" not in name]
    kept = [i for i in kept if "speed" not in rows[0][i] and "cost" not in rows[0][i] and "ns_per" not in rows[0][i]]
    return [[row[i] for i in kept] for row in rows]


def assert_equal(run: Path, other: Path) -> None:
    assert weights(run) == weights(other)
    assert records(run) == records(other)
    assert tables(run) == tables(other)
