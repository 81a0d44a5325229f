"""Fixtures of every room: the tiny task of `alloy.py`, and runs of it that are computed once."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from alloy import write_alloy, write_recipe
from click.testing import CliRunner

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for tensors this small, threads only wait for each other


@pytest.fixture(scope="session")
def alloy_data(tmp_path_factory) -> Path:
    """A folder with train, test and starts."""
    return write_alloy(tmp_path_factory.mktemp("alloy"))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """A folder with recipe.yaml, its data/, runs/tiny and mlflow.db. Copy it before you change anything."""
    from ipip_ext.cli.main import main

    folder = tmp_path_factory.mktemp("finished")
    (folder / "data").mkdir()
    write_alloy(folder / "data")
    write_recipe(folder, Path("data"))
    with contextlib.chdir(folder):
        done = CliRunner().invoke(main, ["run", "recipe.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(params=["check", "run"])
def command(request) -> str:
    return request.param


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working directory of one's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def task(here, alloy_data) -> Path:
    """The same with recipe.yaml and a copy of its data in data/."""
    shutil.copytree(alloy_data, here / "data")
    write_recipe(here, Path("data"))
    return here


@pytest.fixture
def finished(tmp_path, finished_run, monkeypatch) -> Path:
    """A copy of the finished run."""
    shutil.copytree(finished_run, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path()
