"""Molecules, slabs, wires and one-atom cells go through a whole run by its defaults, however their cells stand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from alloy import label
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from click.testing import CliRunner

from ipip_ext import load_calculator
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr

N_TRAIN, N_TEST = 8, 3


@dataclass(frozen=True)
class Case:
    """A kind of structure. n_timed: atoms of the cell that is timed. strained: whether it can be."""

    make: Callable[[], Atoms]
    n_timed: int
    strained: bool


def water() -> Atoms:
    """Return a molecule near the minimum that EMT has for it, or its walks would begin by falling there."""
    atoms = molecule("H2O")
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=40)
    atoms.calc = None
    return atoms


def boxed() -> Atoms:
    atoms = water()
    atoms.set_cell([30.0] * 3)
    return atoms


def slab(order: tuple[int, int, int] = (0, 1, 2)) -> Atoms:
    """Return a slab whose open vector is along axis `order.index(2)`: its cell is that of fcc111, turned."""
    atoms = fcc111("Ag", (1, 1, 3), a=4.05, vacuum=6.0)
    atoms.symbols[1] = "Pd"
    atoms.set_pbc((True, True, False))
    where = list(order)
    return Atoms(
        atoms.symbols, positions=atoms.positions[:, where], cell=atoms.cell.array[where][:, where], pbc=atoms.pbc[where]
    )


def upright() -> Atoms:
    """Return the slab stood up: its third vector, the open one, is along x."""
    atoms = slab()
    return Atoms(
        atoms.symbols, positions=atoms.positions[:, [2, 0, 1]], cell=atoms.cell.array[:, [2, 0, 1]], pbc=atoms.pbc
    )


def bare_slab() -> Atoms:
    atoms = slab()
    atoms.set_cell([*atoms.cell.array[:2], [0, 0, 0]])
    return atoms


def wire() -> Atoms:
    positions = [[0, 0, 0], [2.6, 0.3, 0], [1.3, 2.2, 0.2]]
    return Atoms("Ag2Pd", positions, cell=[5.2, 0, 0], pbc=(True, False, False))


def left_handed() -> Atoms:
    atoms = bulk("Ag", a=4.05, cubic=True)
    atoms.symbols[1] = "Pd"
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    assert np.linalg.det(atoms.cell.array) < 0
    return atoms


def triclinic() -> Atoms:
    atoms = bulk("Ag", a=4.05) * (1, 1, 2)
    atoms.symbols[1] = "Pd"
    return atoms


CASES = {
    "no_cell": Case(water, 3, strained=False),
    "box": Case(boxed, 3, strained=False),
    "slab_z": Case(slab, 108, strained=True),
    "slab_x": Case(lambda: slab((2, 0, 1)), 108, strained=True),
    "slab_y": Case(lambda: slab((0, 2, 1)), 108, strained=True),
    "slab_upright": Case(upright, 108, strained=True),
    "slab_without_vector": Case(bare_slab, 108, strained=True),
    "wire": Case(wire, 99, strained=True),
    "one_atom": Case(lambda: bulk("Ag", a=4.05), 100, strained=True),
    "left_handed": Case(left_handed, 108, strained=True),
    "triclinic": Case(triclinic, 100, strained=True),
}


def recipe() -> dict:
    return {
        "name": "any", "device": "cpu", "parallel": False, "iterations": 1,
        "data": {"train": "train.extxyz", "test": "test.extxyz", "valid_fraction": 0.25},
        "teacher": {"python": "ase.calculators.emt:EMT"},
        "student": {"hidden_irreps": "4x0e", "max_ell": 1, "r_max_A": 4.0, "radial_MLP": [4], "MLP_irreps": "4x0e",
                    "num_bessel": 3},
        "explore": {"starts": "start.extxyz", "temperatures_K": [300], "timestep_fs": 0.5, "n_steps": 8,
                    "frame_every": 4},
        "pretrain": {"epochs": 1, "min_steps": 0},
        "finetune": {"epochs": 1, "min_steps": 0},
        "baselines": [{"kind": "teacher"}],
        "evaluate": {
            "speed_steps": 1,
            "stability": {"temperatures_K": [300], "time_ps": 0.004, "timestep_fs": 0.5},
            "properties": {"temperature_K": 300, "time_ps": 0.02, "timestep_fs": 0.5, "skip_ps": 0.005,
                           "strains": [-0.02, 0.0, 0.02]},
        },
        "tracking": {"enabled": False},
    }  # fmt: skip


def write_task(make: Callable[[], Atoms]) -> None:
    def shaken(seed: int, amplitude_A: float) -> Atoms:
        atoms = make()
        if len(atoms) == 1:  # which a shift leaves as it is
            strain = np.random.default_rng(seed).normal(0, amplitude_A / 4, (3, 3))
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        else:
            atoms.rattle(amplitude_A, rng=np.random.default_rng(seed))
        return atoms

    fr.write_frames(Path("train.extxyz"), [label(shaken(i, 0.08)) for i in range(N_TRAIN)])
    fr.write_frames(Path("test.extxyz"), [label(shaken(100 + i, 0.1)) for i in range(N_TEST)])
    fr.write_frames(Path("start.extxyz"), [shaken(200, 0.01)])
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe()))


def call(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


QUICK = ("no_cell", "slab_upright", "one_atom")


def param(name: str) -> object:
    return pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])


@pytest.mark.parametrize("name", map(param, CASES))
def test_it_goes_through_everything(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = CASES[name]
    write_task(case.make)
    assert f"({case.n_timed} atoms)" in call("check", "recipe.yaml")
    assert not Path("runs").exists()

    said = call("run", "recipe.yaml")
    run = Path("runs/any")
    assert f"({case.n_timed} atoms)" in said
    assert ("no energy under strain" in (run / "log.txt").read_text()) == (not case.strained)
    table = {row["model"]: row for row in rows(run / "compare.csv")}
    for model in ("ipip", "teacher (python:EMT)"):
        assert float(table[model]["md_sane_share"]) == float(table[model]["nve_sane_share"]) == 1.0
        assert 0 <= float(table[model]["rdf_distance"]) <= 1
        assert bool(table[model].get("strain_rmse_meV_per_atom")) == case.strained
    assert (run / "report.html").stat().st_size < 1_000_000

    assert "all" in call("verify", run).splitlines()[-1]
    assert call("compare", run, "--html", "page.html").count("ipip") >= 1
    assert f"on {N_TEST} frames" in call("evaluate", run, "test.extxyz")
    call("md", run, "start.extxyz", "--time-ps", 0.005, "--timestep-fs", 0.5, "--temperature-K", 300, "--out", "walk")
    assert json.loads(Path("walk/summary.json").read_text())["walks"][0]["stops"] == []
    walked = fr.read_structures(Path("walk/trajectory.extxyz"))
    start = fr.read_structures(Path("start.extxyz"))[0]
    assert (walked[-1].pbc == start.pbc).all()
    assert np.allclose(walked[-1].cell.array, start.cell.array)

    frames = fr.read_frames(run / "prepare/test.extxyz")
    best = json.loads((run / "model/stage.json").read_text())["values"]["iteration"]
    stored = np.load(run / f"iter-{best:02d}/evaluate/forces.npz")["predicted"]
    calculator, forces = load_calculator(run), []
    for frame in frames:
        frame.calc = calculator
        forces.append(frame.get_forces())
    np.testing.assert_allclose(np.concatenate(forces), stored, atol=1e-4)


def test_one_structure_has_one_energy_however_its_cell_stands(tmp_path, monkeypatch):
    """A slab lying, upright, without its open vector and in a periodic cell with vacuum."""
    from ipip_ext.backends import registry
    from ipip_ext.recipe.students import config_class

    monkeypatch.chdir(tmp_path)
    frames = [label(slab()), label(left_handed())]
    backend = registry.backend("mace")
    config = config_class("mace").model_validate(recipe()["student"])
    potential = backend.potential(backend.build(config, {"Ag": 0.0, "Pd": 0.0}, frames, seed=0), "cpu")
    wrapped = slab()
    wrapped.pbc = True
    said = [
        p.energy_eV
        for p in potential.compute([slab(), wrapped, slab((2, 0, 1)), slab((0, 2, 1)), upright(), bare_slab()])
    ]
    np.testing.assert_allclose(said, said[0], atol=1e-5)
