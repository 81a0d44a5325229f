"""A short search by scripts/fuzz on every change; the long one is run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("target", ["recipe", "frames"])
def test_readers_only_raise_what_users_can_mend(tmp_path, target):
    pytest.importorskip("atheris", reason="atheris has wheels for Linux on x86-64 alone")
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), target, "--runs", "1500", "--keep", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stat::number_of_executed_units: 15" in done.stderr
