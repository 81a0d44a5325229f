"""Calculators in another interpreter: the same labels, and whatever happens there told here."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from alloy import cell

from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.base import FrameFailed, Potential
from ipip_ext.potentials.compute import compute_each
from ipip_ext.run.fingerprint import content
from ipip_ext.teachers import entries
from ipip_ext.teachers.entries import check, identity, make
from ipip_ext.teachers.interpreter.potential import RemotePotential

HERE = {"interpreter": sys.executable}
FACTORIES = '''
import os, pathlib, signal, time
from ase.calculators.emt import EMT

class Mortal(EMT):
    """Dies on a cell of five atoms: each time, or once."""
    def __init__(self, mark=None):
        super().__init__()
        self.mark = mark and pathlib.Path(mark)
    def calculate(self, atoms, *args, **kwargs):
        print("noise on stdout")
        if len(atoms) == 5 and not (self.mark and self.mark.exists()):
            if self.mark:
                self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if len(atoms) == 6:
            raise ValueError("six atoms\\nare too many")
        super().calculate(atoms, *args, **kwargs)

class Batched:
    """Has `compute`, and tells by its energies how many frames came at once."""
    def compute(self, frames, stress=False):
        from collections import namedtuple
        import numpy as np
        label = namedtuple("Label", "energy_eV forces_eV_per_A stress_eV_per_A3")
        return [label(float(len(frames)), np.zeros((len(f), 3)), None) for f in frames]

class Sleeper(EMT):
    def calculate(self, *args, **kwargs):
        time.sleep(600)

def number():
    return 3

def leave():
    raise SystemExit("no licence")
'''


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "far_side.py").write_text(FACTORIES)
    return tmp_path


def entry(name: str, **more: object) -> dict[str, object]:
    return {"python": f"far_side:{name}", **HERE, **more}


def sized(n_atoms: int):
    atoms = cell(1)
    while len(atoms) < n_atoms:
        atoms.append(atoms[0])
        atoms.positions[-1] += 1.5 * (len(atoms) - 3)
    return atoms


@pytest.mark.parametrize("workers", [1, 2])
def test_labels_are_bitwise_those_of_this_interpreter(workers):
    frames = [cell(seed) for seed in range(5)]
    there = make({"python": "ase.calculators.emt:EMT", **HERE, "workers": workers}, device="cpu")
    here = make({"python": "ase.calculators.emt:EMT"}, device="cpu")
    assert isinstance(there, Potential)
    for far, near in zip(there.compute(frames, stress=True), here.compute(frames, stress=True), strict=True):
        assert far.energy_eV == near.energy_eV
        assert np.array_equal(far.forces_eV_per_A, near.forces_eV_per_A)
        assert np.array_equal(far.stress_eV_per_A3, near.stress_eV_per_A3)
    atoms = cell(7)
    atoms.calc = there.calculator()
    assert atoms.get_potential_energy() == here.compute([atoms])[0].energy_eV


def test_a_frame_that_fails_costs_itself_alone(home):
    potential = make(entry("Mortal"), device="cpu", root=home)
    frames = [cell(0), sized(6), cell(1), sized(5), cell(2)]
    predictions, failures = compute_each(potential, frames)
    assert sorted(failures) == [1, 3]
    assert failures[1] == "python:Mortal: ValueError: six atoms are too many"
    assert "exit code -9" in failures[3]
    expected = make({"python": "ase.calculators.emt:EMT"}, device="cpu").compute([frames[4]])[0]
    assert predictions[4].energy_eV == expected.energy_eV
    with pytest.raises(FrameFailed, match="six atoms") as failed:
        potential.compute(frames)
    assert failed.value.index == 1


def test_a_process_that_dies_is_started_once_more(home):
    potential = make(entry("Mortal", kwargs={"mark": str(home / "died")}), device="cpu", root=home)
    predictions, failures = compute_each(potential, [sized(5)])
    assert not failures
    assert np.isfinite(predictions[0].energy_eV)
    assert (home / "died").exists()


def test_batches_go_as_batches(home):
    potential = make(entry("Batched", workers=2), device="cpu", root=home)
    assert potential.batched
    assert [p.energy_eV for p in potential.compute([cell(i) for i in range(5)])] == [3, 3, 3, 2, 2]


def test_an_interrupt_ends_the_processes(home):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    potential = make(entry("Sleeper"), device="cpu", root=home)
    assert isinstance(potential, RemotePotential)
    pid = potential._at_work[0].pid
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            potential.compute([cell(0), cell(1)])
    finally:
        signal.signal(signal.SIGINT, before)
    _wait_until_gone(pid)


def test_processes_end_with_the_potential():
    potential = make({"python": "ase.calculators.emt:EMT", **HERE, "workers": 2}, device="cpu")
    pids = [worker.pid for worker in potential._at_work]
    del potential
    for pid in pids:
        _wait_until_gone(pid)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"interpreter": "/no/such/python"}, "/no/such/python: can't be run"),
        ({"interpreter": "/bin/false"}, "must be a Python with numpy and ase"),
        ({"python": "far_side:nothing"}, "has no attribute 'nothing'"),
        ({"python": "no_such_module:x"}, "No module named 'no_such_module'"),
    ],
)
def test_check_says_what_is_wrong_without_building(home, told, words):
    with pytest.raises(CalculatorError, match=words):
        check({**entry("Mortal"), **told}, home)


@pytest.mark.parametrize(("name", "words"), [("number", "returned int"), ("leave", "SystemExit: no licence")])
def test_a_factory_that_gives_no_calculator(home, name, words):
    check(entry(name), home)
    with pytest.raises(CalculatorError, match=words):
        make(entry(name), device="cpu", root=home)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"python": "a:b", "workers": 2}, "workers needs interpreter"),
        ({"python": "a:b", "interpreter": "python3", "workers": 0}, "1 to 256"),
        ({"chgnet": "0.3.0", "interpreter": "python3"}, "goes with python"),
    ],
)
def test_forms_that_mean_nothing(wrong, words):
    with pytest.raises(CalculatorError, match=words):
        entries.parse(wrong)


def test_where_and_in_how_many_processes_decides_nothing():
    plain = {"python": "a:b", "kwargs": {"x": 1}}
    assert content(identity({**plain, **HERE, "workers": 8})) == content(identity(plain)) == plain


def _wait_until_gone(pid: int) -> None:
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} is still there")
