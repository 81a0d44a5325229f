"""`import ipip_ext` is light and typed, and four functions have the names of rooms whatever was imported before."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ipip_ext

ROOT = Path(__file__).parents[2]
FUNCTIONS = ("run", "check", "compare", "simulate")
SHUFFLED = """
import importlib, importlib.util, inspect, pkgutil, random, sys
from pathlib import Path

package, seed = Path(sys.argv[1]), int(sys.argv[2])
names = [found.name for found in pkgutil.walk_packages([str(package)], "ipip_ext.")]
if importlib.util.find_spec("torch_sim") is None:
    names = [name for name in names if not name.startswith("ipip_ext.md.torchsim.")]
assert "ipip_ext.run.events" in names and len(names) > 150
random.Random(seed).shuffle(names)

def import_all(some):
    for name in some:
        importlib.import_module(name)

def check():
    import ipip_ext
    for name in ("run", "check", "compare", "simulate"):
        assert inspect.isfunction(getattr(ipip_ext, name)), (name, getattr(ipip_ext, name))
        assert inspect.ismodule(sys.modules[f"ipip_ext.{name}"])

import_all(names[: len(names) // 2])
import ipip_ext
check()
import_all(names[len(names) // 2 :])
check()
from ipip_ext import check as checks, compare, run, simulate
assert all(map(inspect.isfunction, (checks, compare, run, simulate)))
from ipip_ext.run import events
from ipip_ext.simulate.files import Written
assert inspect.ismodule(events) and inspect.isclass(Written)
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_names_are_functions_whatever_is_imported_in_whatever_order(seed):
    python("-c", SHUFFLED, str(ROOT / "ipip_ext"), str(seed))


@pytest.mark.parametrize(
    "first",
    [
        "from ipip_ext.run import events",
        "import ipip_ext.run.events",
        "import ipip_ext.compare",
        "from ipip_ext import simulate",
        "import ipip_ext; ipip_ext.run",
    ],
)
def test_the_first_import_decides_nothing(first):
    python(
        "-c",
        f"{first}\nimport inspect, sys, ipip_ext\nfrom ipip_ext.run import events, lock\n"
        f"assert all(inspect.isfunction(getattr(ipip_ext, name)) for name in {FUNCTIONS})\n"
        "assert events is sys.modules['ipip_ext.run.events']",
    )


def test_the_door_is_light():
    heavy = "{'torch', 'numpy', 'pydantic', 'mace', 'ase', 'mlflow', 'click', 'yaml', 'pandas'}"
    python("-c", f"import sys, ipip_ext, ipip_ext.errors\nassert not {heavy} & sys.modules.keys()")
    python("-c", "import sys, ipip_ext\nipip_ext.open_run, ipip_ext.Recipe\nassert 'torch' not in sys.modules")


def test_the_command_line_is_found_by_its_module():
    for words in (["-m", "ipip_ext.cli"], ["-c", "from ipip_ext.cli.main import main; main()"]):
        assert "ipip-mace, version" in python(*words, "--version").stdout


def test_every_name_is_there_and_says_what_it_does():
    for name in ipip_ext.__all__:
        found = getattr(ipip_ext, name)
        assert isinstance(found, str) or inspect.getdoc(found), name
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        ipip_ext.runn  # noqa: B018


TYPED = """
from typing import assert_type
from pathlib import Path
import ipip_ext
from ipip_ext import Plan, Recipe, Run, Simulation
from ipip_ext.run import events

recipe = ipip_ext.load_recipe("recipe.yaml", seed=1)
assert_type(recipe, Recipe)
assert_type(ipip_ext.check(recipe), Plan)
assert_type(ipip_ext.run(recipe, progress=False), Run)
assert_type(ipip_ext.open_run("runs/a").model, Path)
assert_type(ipip_ext.simulate("runs/a", "cu.cif", ensemble="npt", temperatures_K=[300, (300, 900)]), Simulation)
assert_type(ipip_ext.evaluate("chgnet", "test.extxyz"), dict[str, float])
assert_type(events.Event("run", "started").name, str)
ipip_ext.run(recipe, redoo="x")
ipip_ext.simulate("runs/a", "cu.cif", temperature_K=300)
ipip_ext.open_run(3)
"""


@pytest.mark.slow
def test_mypy_sees_the_signatures(tmp_path):
    (tmp_path / "user.py").write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports", "silent", "user.py"]
    more = ["--cache-dir", os.devnull, "--config-file", str(ROOT / "pyproject.toml")]
    where = {**os.environ, "MYPYPATH": str(ROOT)}
    said = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, env=where).stdout
    wrong = [line.split(":")[1] for line in said.splitlines() if line.startswith("user.py")]
    lines = TYPED.splitlines()
    assert {lines[int(number) - 1] for number in wrong} == set(lines[-3:]), said
