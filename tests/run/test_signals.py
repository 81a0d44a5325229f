"""Asked to stop, a run stops where nothing is half done, says how to go on, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from alloy import write_recipe
from placed import CLI
from processes import at_work_in, children

from ipip_ext.run import signals
from ipip_ext.run.events import Event, EventBus, read_events

SAFE = Event("progress", "x", 0.5)
SLEEPER = """
import time
from pathlib import Path
from ase.calculators.emt import EMT
class Sleeper(EMT):
    def calculate(self, *args, **kwargs):
        Path(__file__).with_name("asleep").touch()
        time.sleep(600)
"""


def ask(signum: int = signal.SIGUSR1) -> None:
    os.kill(os.getpid(), signum)


def test_it_stops_at_a_safe_point_and_nowhere_else():
    seen: list[str] = []
    bus = EventBus([signals.at_safe_points, lambda event: seen.append(event.kind)])
    with pytest.raises(signals.Stopped) as stopped, signals.stoppable():  # noqa: PT012
        bus.emit(SAFE)
        ask(signal.SIGTERM)
        bus.emit(Event("metric", "train_loss", 1.0))  # comes before the epoch's checkpoint
        bus.emit(SAFE)
    assert seen == ["progress", "metric"]
    assert (stopped.value.exit_code, str(stopped.value)) == (143, "signal SIGTERM")
    bus.emit(SAFE)  # whoever asks for a run afterwards gets one


def test_where_no_safe_point_comes_it_is_interrupted(monkeypatch):
    monkeypatch.setattr(signals, "GRACE_S", 0.05)
    with pytest.raises(signals.Stopped), signals.stoppable():  # noqa: PT012
        ask()
        while True:
            time.sleep(0.01)


def test_handlers_are_put_back_and_what_was_ignored_stays_so():
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    others = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    try:
        with signals.stoppable():
            ask()
            EventBus([signals.at_safe_points]).emit(SAFE)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert others == [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]


def test_in_another_thread_it_does_nothing():
    entered = []

    def enter() -> None:
        with signals.stoppable():
            entered.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [signal.getsignal(signal.SIGTERM)]


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([*CLI, "run", "recipe.yaml"], cwd=folder, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], path: Path) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def stop(process: subprocess.Popen[str], signum: int) -> str:
    """Ask the run to stop; return what it said to the end."""
    process.send_signal(signum)
    return process.communicate(timeout=120)[1]


def last_word(run: Path) -> str:
    return [str(event.value) for event in read_events(run / "events.jsonl") if event.kind == "run"][-1]


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_run_stops_and_says_how_to_go_on(tmp_path, alloy_data, signum, code):
    write_recipe(
        tmp_path, alloy_data, tracking__enabled=False, pretrain__epochs=100_000,
        baselines=[{"kind": "scratch", "fit": {"epochs": 100_000}}],
        compute={"place": "processes" if signum == signal.SIGTERM else "here"},
    )  # fmt: skip
    run, process = tmp_path / "runs/tiny", start(tmp_path)
    wait_for(process, run / "iter-00/pretrain.part/fit/checkpoint.pt")
    workers = children(process.pid)
    assert bool(workers) == (signum == signal.SIGTERM)
    for worker in workers[:1]:
        os.kill(worker, signal.SIGSTOP)  # as a debugger, a freezer or a file server that stalls would
    said = stop(process, signum)
    assert process.returncode == code
    name = signal.Signals(signum).name
    assert f"{name}: stopping at the next safe point" in said
    assert f"stopped by signal {name}; all that is finished is kept. To go on: ipip-mace run recipe.yaml\n" in said
    assert "Traceback" not in said
    assert last_word(run) == f"Stopped: signal {name}"
    assert (run / "iter-00/pretrain.part/fit/checkpoint.pt").stat().st_size > 0
    assert not (run / "lock.json").exists()
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]


@pytest.mark.slow
def test_a_reference_method_that_takes_hours_does_not_keep_it(tmp_path, alloy_data):
    """It is interrupted in the middle of a label, and its own process ends too."""
    (tmp_path / "slow_method.py").write_text(SLEEPER)
    write_recipe(
        tmp_path, alloy_data, tracking__enabled=False,
        teacher={"python": "slow_method:Sleeper", "interpreter": sys.executable},
    )  # fmt: skip
    process = start(tmp_path)
    wait_for(process, tmp_path / "asleep")
    said = stop(process, signal.SIGUSR1)
    assert process.returncode == 128 + signal.SIGUSR1
    assert "stopped by signal SIGUSR1" in said
    assert not at_work_in(tmp_path)
