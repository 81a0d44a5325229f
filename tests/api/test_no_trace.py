"""A run from Python, in a process of its own: it leaves the process as it found it, and that changes no result."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alloy import tiny_recipe, write_alloy

from ipip_ext import open_run

CALLER = """
import json, logging, os, random, signal, sys, threading, warnings
from pathlib import Path
import matplotlib, numpy as np, torch

def handler(signum, frame):
    raise AssertionError(signum)

logging.basicConfig(filename="own.log", filemode="w", level=logging.INFO, format="%(message)s")
own = logging.getLogger("own")
own.setLevel(logging.DEBUG)
warnings.simplefilter("ignore", ResourceWarning)
matplotlib.rcParams["figure.dpi"] = 7
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
signal.signal(signal.SIGUSR1, handler)
signal.signal(signal.SIGTERM, handler)
torch.set_num_threads(2)
torch.set_default_dtype(torch.float64)
os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "77"
random.seed(1), np.random.seed(1), torch.manual_seed(1)

def state():
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)
    return {
        "signals": [repr(signal.getsignal(one)) for one in signals],
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "threads": torch.get_num_threads(),
        "dtype": str(torch.get_default_dtype()),
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "root": [logging.root.level, repr(logging.root.handlers), logging.root.manager.disable],
        "own": [own.level, repr(own.handlers), own.propagate, own.disabled],
        "figures": [repr(dict.__getitem__(matplotlib.rcParams, "backend")), matplotlib.rcParams["figure.dpi"]],
        "filters": [repr(one) for one in warnings.filters],
        "path": list(sys.path),
        "grad": torch.is_grad_enabled(),
        "errors": np.geterr(),
    }

import ipip_ext
recipe = ipip_ext.Recipe(**json.loads(sys.argv[1]))
ipip_ext.run  # importing scipy adds warning filters of scipy's own, wherever it is imported
before, changed, said = state(), [], {}

def compare(when):
    after = state()
    changed.extend(f"{when}: {key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key])

def stop(event):
    if event.stage == "iter-00/pretrain" and event.kind == "progress" and "stopped" not in said:
        said["stopped"] = True
        os.kill(os.getpid(), signal.SIGINT)

try:
    ipip_ext.run(recipe, progress=stop)
except KeyboardInterrupt as error:
    said["stop"] = f"{type(error).__name__}: {error}"
compare("stopped")
made = ipip_ext.run(recipe, progress=False)
compare("run")
said["folder"] = str(made.folder)
try:
    ipip_ext.run(recipe, "own.log")
except ipip_ext.errors.WorkspaceError as error:
    said["refused"] = str(error)
compare("refused")

def beside():
    try:
        ipip_ext.run(recipe, progress=meanwhile, redo="report")
        said["thread"] = "finished"
    except BaseException as error:
        said["thread"] = repr(error)

def meanwhile(event):
    if (event.kind, event.name) == ("stage", "started"):
        other.start()
        other.join()

def refused():
    try:
        ipip_ext.evaluate(made, "data/test.extxyz")
    except ipip_ext.errors.UserError as error:
        said["second"] = str(error)

other, thread = threading.Thread(target=refused), threading.Thread(target=beside)
thread.start()
thread.join()
compare("thread")
own.info("still heard")
logging.shutdown()
json.dump({"changed": changed, **said, "heard": Path("own.log").read_text()}, sys.stdout)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[Path, dict, str]:
    """Where the caller was, what it found, and what it saw on stderr."""
    folder = tmp_path_factory.mktemp("caller")
    (folder / "data").mkdir()
    write_alloy(folder / "data")
    where = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    where["MLFLOW_DISABLE_TELEMETRY"] = "true"
    command = [sys.executable, "-c", CALLER, json.dumps(tiny_recipe(Path("data")))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=where)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_the_process_is_as_the_caller_had_it(told):
    _, found, _ = told
    assert found["changed"] == []
    assert found["heard"].endswith("still heard\n")


@pytest.mark.slow
def test_ctrl_c_stops_it_and_the_same_call_goes_on(told):
    _, found, said = told
    assert found["stop"] == "Stopped: signal SIGINT"
    assert found["folder"] == "runs/tiny"
    assert [line for line in said.splitlines() if "SIGINT" not in line] == []


@pytest.mark.slow
def test_the_caller_s_state_changes_no_result(told, finished_run):
    """The caller's default of double precision and two threads reach no weight, nor does the stop in between."""

    def digest(folder: Path) -> str:
        return hashlib.sha256((folder / "runs/tiny/model/student.safetensors").read_bytes()).hexdigest()

    assert digest(told[0]) == digest(finished_run)
    numbers = [
        {(row["model"], row["split"]): row["force_mae_meV_per_A"] for row in open_run(folder / "runs/tiny").rows()}
        for folder in (told[0], finished_run)
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.slow
def test_refusals_and_other_threads(told):
    _, found, _ = told
    assert found["refused"] == "own.log: is a file; name a folder with --workdir."
    assert found["thread"] == "finished"
    assert "another thread of this process is at work" in found["second"]
