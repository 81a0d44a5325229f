"""What a run of version 0.1.0 made of ordinary data is made of them still, so that it is reused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from ipip_ext import loop
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run import provenance
from ipip_ext.run.events import EventBus
from ipip_ext.run.workspace import Workspace

OLD = Path(__file__).parents[1] / "fixtures/run_0.1.0.tar.xz"


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs/tiny"


def test_every_stage_of_an_old_run_is_reused(old):
    recipe, said = load_recipe(Path("recipe.yaml")), []
    loop.run(recipe, Workspace(old, EventBus([said.append]), recipe.seed, recipe.device, rehearsal=True))
    names = [event.name for event in said if event.kind == "stage"]
    assert len(names) >= len(list(old.rglob("stage.json")))
    assert set(names) == {"reused"}


def test_prepare_writes_the_same_files(old, tmp_path):
    recipe = load_recipe(Path("recipe.yaml"))
    done = loop.prepare_data(recipe, Workspace(tmp_path / "anew", EventBus(), recipe.seed))
    then = json.loads((old / "prepare/stage.json").read_text())
    assert {key: entry["sha256"] for key, entry in then["outputs"].items()} == {
        key: provenance.sha256(done.folder / entry["file"]) for key, entry in done.record["outputs"].items()
    }
    assert {key: done.record["values"][key] for key in then["values"]} == then["values"]
