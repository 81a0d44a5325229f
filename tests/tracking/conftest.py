"""A store of its own for each test, and runs in it."""

from __future__ import annotations

import shutil

import pytest
from tracked import all_runs, emit, make_events

from ipip_ext.recipe.tracking import Tracking
from ipip_ext.tracking import store
from ipip_ext.tracking.mirror import MlflowMirror, replay


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "runs" / "mos2"
    path.mkdir(parents=True)
    return path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """MLflow takes a second to make its tables, so they are made once and copied."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.connect(f"sqlite:///{file}", "Default")
    return file


@pytest.fixture
def tracking(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="test of tracking")


@pytest.fixture
def mirrored(folder, tracking):
    emit(folder, make_events(folder), MlflowMirror(folder, tracking, "mos2"))
    return all_runs(tracking)


@pytest.fixture(scope="session")
def published(finished_run, tmp_path_factory):
    """A finished run of its own, beside the store that its run wrote."""
    folder = tmp_path_factory.mktemp("published") / "runs" / "tiny"
    shutil.copytree(finished_run / "runs" / "tiny", folder)
    (folder / "tracking.json").unlink()
    tracking = Tracking(uri=f"sqlite:///{folder.parents[1]}/mlflow.db")
    replay(folder, tracking)
    return folder, tracking
