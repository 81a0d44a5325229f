"""Side processes: whose modules they import, what is heard of them, and how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from strangers import plant

import ipip_ext
from ipip_ext.run import processes
from ipip_ext.run.processes import SideProcess

TALKER = """
import sys
from ipip_ext.run.processes import tell
print("a library says this", end="")
tell(share=0.5, text="half done")
print("[1, 2]")
tell(note="so far so good")
print("no licence", file=sys.stderr)
sys.exit(3)
"""
SLEEPER = "import time; print('asleep', flush=True); time.sleep(600)"


@pytest.fixture
def modules(tmp_path):
    """Write a module, and return a side process that is it."""
    with contextlib.ExitStack() as stack:

        def start(name: str, code: str, *arguments: object, words: Path | None = None) -> SideProcess:
            (tmp_path / "modules").mkdir(exist_ok=True)
            (tmp_path / f"modules/{name}.py").write_text(code)
            environment = {**os.environ, "PYTHONPATH": str(tmp_path / "modules")}
            process = SideProcess(name, *arguments, words=words, environment=environment)
            return stack.enter_context(process)

        yield start


def wait_for(process: SideProcess, words: Path) -> None:
    """Wait until `process` has said something."""
    while not words.read_bytes():
        assert process.poll() is None, process.fate
        time.sleep(0.05)


def test_it_is_heard_and_its_last_words_are_told(modules):
    process = modules("talker", TALKER)
    assert process.wait() == 3
    assert process.heard() == [{"share": 0.5, "text": "half done"}, {"note": "so far so good"}]
    assert process.heard() == []
    assert process.fate == "ended with exit code 3, having said: a library says this | [1, 2] | no licence"


def test_its_words_go_where_they_are_wanted_and_older_ones_stay(modules, tmp_path):
    words = tmp_path / "words.log"
    words.write_text("of an earlier one\n")
    process = modules("speaker", "print('of this one'); raise SystemExit(1)", words=words)
    assert process.wait() == 1
    assert words.read_text() == "of an earlier one\nof this one\n"
    assert process.fate == "ended with exit code 1, having said: of this one"


def test_it_is_this_very_package_and_no_module_of_the_working_folder(modules, tmp_path, monkeypatch):
    (tmp_path / "ipip_ext").mkdir()
    (tmp_path / "ipip_ext/__init__.py").write_text("open('ran.txt', 'w')")
    ran = plant(tmp_path)
    monkeypatch.chdir(tmp_path)
    code = "import sys, random, ipip_ext; from ipip_ext.run.processes import tell; tell(file=ipip_ext.__file__)"
    process = modules("asker", f"{code}; tell(path=sys.path, arguments=sys.argv[1:])", 1, "two")
    assert process.wait() == 0, process.fate
    first, second = process.heard()
    assert first == {"file": ipip_ext.__file__}
    assert second["arguments"] == ["1", "two"]
    assert not {"", ".", str(tmp_path)} & set(second["path"])
    assert not ran.exists()


def test_one_that_is_stopped_or_deaf_is_made_to_end(modules, tmp_path):
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
    started = [modules(name, code, words=tmp_path / name) for name, code in (("sleeper", SLEEPER), ("deaf", deaf))]
    for process, name in zip(started, ("sleeper", "deaf"), strict=True):
        wait_for(process, tmp_path / name)
    os.kill(started[0].pid, signal.SIGSTOP)
    processes.end_all(dict(enumerate(started)))
    assert started[0].poll() in (-signal.SIGTERM, -signal.SIGKILL)
    assert started[1].poll() == -signal.SIGKILL


def test_one_that_shows_no_life_is_not_waited_for(modules, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "SILENT_S", 4.0)
    words, looks = tmp_path / "words", []
    process = modules("sleeper", SLEEPER, words=words)
    wait_for(process, words)
    os.kill(process.pid, signal.SIGSTOP)
    assert process.wait(lambda: looks.append(process.pid)) == -signal.SIGKILL
    assert process.fate == "showed no life for 4 s and was ended"
    assert looks


@pytest.mark.slow
def test_one_that_says_nothing_but_lives_is_left_alone(modules, monkeypatch):
    monkeypatch.setattr(processes, "SILENT_S", 5.0)
    assert modules("quiet", "import time; time.sleep(8)").wait() == 0


def test_an_interrupt_is_the_parent_s_to_pass_on(modules, tmp_path):
    words = tmp_path / "words"
    process = modules("sleeper", SLEEPER, words=words)
    wait_for(process, words)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None


def test_it_ends_with_its_parent(modules, tmp_path):
    words = tmp_path / "words"
    code = (
        "import sys, time; from pathlib import Path; from ipip_ext.run.processes import SideProcess\n"
        "print(SideProcess('timeit', '-n', '1', '-r', '1', 'import time; time.sleep(600)').pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = modules("parent", code, words=words)
    wait_for(parent, words)
    child = int(words.read_text())
    os.kill(parent.pid, signal.SIGKILL)
    for _ in range(600):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"process {child} is still there")


def test_a_process_of_another_kind_is_seen_off(tmp_path):
    leaver = subprocess.Popen([sys.executable, "-c", "pass"])
    processes.see_off(leaver, within_s=60.0)
    assert leaver.returncode == 0
    stays = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.DEVNULL)
    processes.see_off(stays, within_s=0.2)
    assert stays.returncode in (-signal.SIGTERM, -signal.SIGKILL)
