"""What a run of version 0.1.0 made of ordinary data is made of them still, so that it is reused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from alloy import ROOT

from ipip_ext import loop
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run import provenance
from ipip_ext.run.events import EventBus
from ipip_ext.run.workspace import Workspace


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    with tarfile.open(ROOT / "tests/fixtures/run_0.1.0.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs/tiny"


def test_prepare_writes_the_same_files(old, tmp_path):
    recipe = load_recipe(Path("recipe.yaml"))
    done = loop.prepare_data(recipe, Workspace(tmp_path / "anew", EventBus(), recipe.seed))
    then = json.loads((old / "prepare/stage.json").read_text())
    assert {key: entry["sha256"] for key, entry in then["outputs"].items()} == {
        key: provenance.sha256(done.folder / entry["file"]) for key, entry in done.record["outputs"].items()
    }
    assert {key: done.record["values"][key] for key in then["values"]} == then["values"]
