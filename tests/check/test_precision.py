"""`check` says what float32 does to energies where others compute them."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from alloy import write_alloy, write_recipe
from click.testing import CliRunner

from ipip_ext.cli.main import main


@pytest.mark.parametrize(("lift_eV", "dtype", "told"), [
    (0.0, "float32", None), (-1e4, "float64", None),
    (-1e4, "float32", "eV have steps of 3.91 meV in float32"),
    (-5e5, "float32", "eV have steps of 125 meV in float32"),
])  # fmt: skip
def test_coarse_steps_are_told(tmp_path, lift_eV, dtype, told):
    write_alloy(tmp_path)
    for name in ("train", "test"):
        path = tmp_path / f"{name}.extxyz"
        frames = ase.io.read(path, ":")
        for frame in frames:
            frame.info["REF_energy"] += lift_eV * len(frame)
        ase.io.write(path, frames, format="extxyz")
    recipe: Path = write_recipe(tmp_path, tmp_path, student__dtype=dtype)
    done = CliRunner().invoke(main, ["check", str(recipe)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    warnings = [line for line in done.output.splitlines() if line.startswith("warning")]
    assert len(warnings) == (told is not None)
    for warning in warnings:
        assert told in warning
        assert "student.dtype: float64" in warning
        assert "take an energy for each element off the labels" in warning
