"""Modules of standard names in the folder one works in, and in the recipe's: no process of a run imports them."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from alloy import write_alloy, write_recipe
from click.testing import CliRunner
from foundation import write_foundation
from strangers import PLANTED, plant

from ipip_ext.cli.main import main
from ipip_ext.run.events import read_events
from ipip_ext.teachers import entries

OWN = """
from neighbour import EMT  # beside it
def make():
    return EMT()
"""
LORA = {"kind": "finetuned", "name": "lora", "mace": "foundation.model", "method": "lora", "lora_rank": 2}
FORCE_FIELD = {
    "kind": "conventional", "name": "lj", "pair_style": "lj/cut 5.0", "pair_coeff": ["* * 0.1 2.5"],
    "elements": ["Cu", "Al"],
}  # fmt: skip


@pytest.fixture
def places(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """The folder that one works in and the recipe's, with planted modules and a factory that a recipe may name."""
    work, home = tmp_path / "work", tmp_path / "home"
    for folder in (work, home):
        folder.mkdir()
        plant(folder)
    (home / "own_calculator.py").write_text(OWN)
    (home / "neighbour.py").write_text("from ase.calculators.emt import EMT\n")
    monkeypatch.chdir(work)
    yield work, home
    for name in ("own_calculator", "neighbour"):
        sys.modules.pop(name, None)


def ran(*folders: Path) -> list[str]:
    marks = [folder / "ran.txt" for folder in folders]
    return [line for mark in marks if mark.exists() for line in mark.read_text().splitlines()]


def test_there_are_enough_of_them(places):
    assert len(PLANTED) >= 30
    assert all((folder / f"{name}.py").is_file() for folder in places for name in PLANTED)


@pytest.mark.parametrize("interpreter", [None, sys.executable])
@pytest.mark.parametrize("factory", ["ase.calculators.emt:EMT", "own_calculator:make", "json:loads"])
def test_a_factory_s_process_imports_what_the_recipe_names_alone(places, factory, interpreter):
    """`json` is installed, so it is not the one beside the recipe, which has no `loads`."""
    entry = {"python": factory} | ({} if interpreter is None else {"interpreter": interpreter})
    entries.check(entry, places[1])
    if factory != "json:loads":
        assert entries.make(entry, device="cpu", root=places[1]).name.startswith("python:")
    assert not ran(*places)
    assert str(places[1]) not in sys.path


@pytest.mark.slow
def test_a_run_with_all_side_processes_imports_none(places):
    """Workers, members side by side, run_train, another interpreter, LAMMPS, and the measuring of memory."""
    work, home = places
    write_alloy(home)
    write_foundation(home / "foundation.model")
    remote = {"kind": "calculator", "name": "remote", "calculator": {"python": "own_calculator:make"}}
    remote["calculator"] |= {"interpreter": sys.executable, "workers": 2}
    write_recipe(
        home, home, compute={"place": "processes", "workers": 3}, tracking__enabled=False,
        teacher={"python": "own_calculator:make"},
        label__policy="committee", committee={"size": 3}, evaluate__speed_memory=True, evaluate__speed_supercells=[],
        baselines=[
            {"kind": "scratch", "fit": {"epochs": 2}}, LORA | {"fit": {"epochs": 1, "batch_size": 4}}, remote,
            FORCE_FIELD,
        ],
    )  # fmt: skip
    done = CliRunner().invoke(main, ["run", str(home / "recipe.yaml")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert not ran(work, home)
    run = work / "runs/tiny"
    with (run / "compare.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert {"ipip", "scratch", "lora", "remote", "lj"} <= set(rows)
    with (run / "speed/speed.csv").open() as file:
        assert all(row["peak_memory_MiB"] for row in csv.DictReader(file) if row["model"] in ("ipip", "lora"))
    events = list(read_events(run / "events.jsonl"))
    assert not [event.name for event in events if "having said" in event.name]
