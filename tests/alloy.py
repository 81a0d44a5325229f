"""A tiny but real task: Cu-Al cells labelled by one EMT, taught by another; and a recipe for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from click.testing import CliRunner

from ipip_ext.data import frames as fr
from ipip_ext.potentials.base import Prediction

ROOT = Path(__file__).parent.parent
"""Of the checkout."""


def cell(seed: int, amplitude_A: float = 0.12) -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
    atoms.symbols[seed % 4] = "Al"
    atoms.rattle(amplitude_A, rng=np.random.default_rng(seed))
    return atoms


def label(atoms: Atoms, **info: object) -> Atoms:
    atoms = atoms.copy()
    atoms.calc = EMT(asap_cutoff=True)
    frame = fr.labelled(atoms, Prediction(atoms.get_potential_energy(), atoms.get_forces()), "emt")
    frame.info.update(info)
    return frame


def write_alloy(folder: Path) -> Path:
    """Write train, test and starts into `folder`; test holds a start that train lacks."""
    fr.write_frames(folder / "train.extxyz", [label(cell(i), start=f"s{i % 2}") for i in range(16)])
    fr.write_frames(folder / "test.extxyz", [label(cell(100 + i, 0.2), start=f"s{i % 3}") for i in range(6)])
    starts = [cell(i, 0.01) for i in range(2)]
    for index, atoms in enumerate(starts):
        atoms.info["name"] = f"s{index}"
    fr.write_frames(folder / "starts.extxyz", starts)
    return folder


def tiny_recipe(data: Path, **changes: object) -> dict:
    recipe = {
        "name": "tiny",
        "seed": 3,
        "device": "cpu",
        "parallel": False,
        "iterations": 2,
        "min_improvement": 0.0,
        "data": {
            "train": str(data / "train.extxyz"),
            "test": str(data / "test.extxyz"),
            "valid_fraction": 0.25,
            "ood": {"key": "start", "values": ["s2"]},
        },
        "teacher": {"python": "ase.calculators.emt:EMT"},
        "correct": {"form": "none"},
        "student": {
            "hidden_irreps": "4x0e+4x1o", "max_ell": 1, "r_max_A": 4.0, "radial_MLP": [8], "MLP_irreps": "4x0e",
            "num_bessel": 4,
        },
        "explore": {
            "starts": str(data / "starts.extxyz"), "temperatures_K": [600], "n_steps": 40, "frame_every": 5,
        },
        "pretrain": {"epochs": 3, "batch_size": 8},
        "finetune": {"epochs": 4, "batch_size": 8},
        "baselines": [{"kind": "teacher"}, {"kind": "scratch", "fit": {"epochs": 3}}],
        "evaluate": {"speed_supercell": [2, 2, 2], "speed_steps": 2},
    }  # fmt: skip
    for key, value in changes.items():
        here = recipe
        *sections, last = key.split("__")
        for section in sections:
            here = here.setdefault(section, {})
        here[last] = value
    return recipe


def write_recipe(folder: Path, data: Path, **changes: object) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(data, **changes), sort_keys=False))
    return path


def refused(*arguments: object) -> str:
    """Call `ipip-mace` in this process; return its one line of refusal."""
    from ipip_ext.cli.main import main

    done = CliRunner().invoke(main, [str(a) for a in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 2, done.output
    # which pickle is about to be loaded is said before it can do anything
    lines = [line for line in done.stderr.splitlines() if ": unpickles " not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in lines[0]
    return lines[0]


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file in `folder`, by its place."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_refused(words: tuple[str, ...], *arguments: object) -> None:
    """Assert that the refusal holds `words` and leaves every file below the working directory as it is."""
    before = contents(Path())
    message = refused(*arguments)
    for word in words:
        assert word in message, message
    assert contents(Path()) == before
    assert Path("runs").exists() == any(name.startswith("runs/") for name in before)
