"""The finished model, in the hands of MACE's own tools and of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloy import cell, label

from ipip_ext import load_calculator
from ipip_ext.data import frames as fr

pytestmark = pytest.mark.slow


def mace_tool(name: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).parent / name), *arguments], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_load_calculator_takes_run_and_model_folder(finished_run):
    run = finished_run / "runs" / "tiny"
    values = []
    for path in (run, run / "model", str(run)):
        atoms = cell(5)
        atoms.calc = load_calculator(path)
        values.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    for energy, forces, stress in values[1:]:
        assert energy == values[0][0]
        assert np.array_equal(forces, values[0][1])
        assert np.array_equal(stress, values[0][2])


def test_mace_eval_configs_agrees(finished_run, tmp_path):
    run = finished_run / "runs" / "tiny"
    frames = [cell(i) for i in range(3)]
    ase.io.write(tmp_path / "in.extxyz", frames)
    mace_tool(
        "mace_eval_configs", "--configs", "in.extxyz", "--model", str(run / "model" / "student.model"),
        "--output", "out.extxyz", "--device", "cpu", "--default_dtype", "float32", cwd=tmp_path,
    )  # fmt: skip
    calculator = load_calculator(run)
    for atoms, theirs in zip(frames, ase.io.read(tmp_path / "out.extxyz", ":"), strict=True):
        atoms.calc = calculator
        assert theirs.info["MACE_energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        assert np.allclose(theirs.arrays["MACE_forces"], atoms.get_forces(), atol=1e-4)


def test_mace_run_train_takes_it_as_a_foundation(finished_run, tmp_path):
    run = finished_run / "runs" / "tiny"
    fr.write_frames(tmp_path / "train.extxyz", [label(cell(i)) for i in range(6)])
    mace_tool(
        "mace_run_train", "--name", "tuned", "--train_file", "train.extxyz", "--valid_fraction", "0.34",
        "--foundation_model", str(run / "model" / "student.model"), "--multiheads_finetuning", "False",
        "--energy_key", "REF_energy", "--forces_key", "REF_forces", "--E0s", "{13: 0.0, 29: 0.0}",
        "--max_num_epochs", "1", "--batch_size", "2", "--valid_batch_size", "2", "--device", "cpu",
        "--default_dtype", "float32", "--model_dir", ".", cwd=tmp_path,
    )  # fmt: skip
    assert (tmp_path / "tuned.model").is_file()


def test_the_student_runs_md_as_a_plain_mace_model(finished_run):
    """In a process that never imports us: 200 steps of NVT MD with MACE's own calculator."""
    code = (
        "import sys, numpy as np, ase.io; from ase import units; from ase.md.langevin import Langevin;"
        "from mace.calculators import MACECalculator;"
        "atoms = ase.io.read(sys.argv[2], index=0);"
        "atoms.calc = MACECalculator(model_paths=sys.argv[1], device='cpu');"
        "md = Langevin(atoms, 1.0 * units.fs, temperature_K=300, friction=0.01 / units.fs, fixcm=False,"
        " rng=np.random.default_rng(0)); md.run(200);"
        "assert np.isfinite(atoms.positions).all() and atoms.get_temperature() < 3000"
    )
    run = finished_run / "runs" / "tiny"
    files = [str(run / "model/student.model"), str(run / "prepare/starts.extxyz")]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
