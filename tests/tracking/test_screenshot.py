"""What a user sees who compares runs: MLflow's own page, in a real browser on a real server."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tracked import emit, make_events

from ipip_ext.recipe.tracking import Tracking
from ipip_ext.tracking.mirror import MlflowMirror

SCRIPT = Path(__file__).parents[2] / "scripts/screenshot_mlflow"
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="no Playwright: pip install playwright")
def test_all_runs_stand_side_by_side_with_their_metrics_first(tmp_path):
    folder = tmp_path / "runs/mos2"
    folder.mkdir(parents=True)
    emit(folder, make_events(folder), MlflowMirror(folder, Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db"), "mos2"))
    command = [sys.executable, str(SCRIPT), "page.png", "--run", "mos2", "--page", "page.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert "Comparing 5 Runs from 1 Experiment" in page
    for name in ("mos2", "iteration 0", "iteration 1", "teacher", "scratch"):
        assert f">{name}<" in page
    for key in ("test_force_mae_meV_per_A", "test_energy_mae_meV_per_atom", "role"):
        assert key in page
    assert page.index("test_force_mae_meV_per_A") < page.index("work.")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
