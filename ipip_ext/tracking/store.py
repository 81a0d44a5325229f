"""Where the store is, and how it is reached."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ipip_ext.recipe.recipe import Tracking

ENVIRONMENT = {  # all may be set otherwise by the user
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's own default keeps trying for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # jobs are for language models
}


def sqlite_file(uri: str) -> Path | None:
    """Return the absolute file behind a sqlite URI, relative ones from the working directory; else None."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").split("?")[0]).absolute()


def store_name(uri: str, run_folder: Path) -> str:
    """Return the name of the store in `tracking.json`.

    A sqlite file is named relative to the run folder: another working directory means another
    store, and a project moved as a whole keeps its own.
    """
    file = sqlite_file(uri)
    return f"sqlite:{os.path.relpath(file, run_folder.absolute())}" if file else uri


def check_sqlite(uri: str) -> None:
    """Raise sqlite3.Error or OSError when the file behind `uri` can't be written.

    MLflow would try it again for minutes; sqlite itself says at once what is wrong.
    """
    file = sqlite_file(uri)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file, timeout=5)) as database:
            database.execute("BEGIN IMMEDIATE")


def connect(uri: str) -> Any:
    """Return MLflow's client of the store `uri`. Raises what sqlite and the disk raise, at once."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    check_sqlite(uri)
    from mlflow.tracking import MlflowClient

    for noisy in ("mlflow.store.db.utils", "alembic", "urllib3.connectionpool"):
        logging.getLogger(noisy).setLevel(logging.ERROR)  # what fails is raised, and said once
    file = sqlite_file(uri)
    # absolute, because MLflow keeps a store by its URI, and a process may change its working directory
    return MlflowClient(tracking_uri=f"sqlite:///{file}" if file and "?" not in uri else uri)


def experiment_id(client: Any, tracking: Tracking) -> str:
    """Return MLflow's id of the experiment, which is made if it is not there."""
    found = client.get_experiment_by_name(tracking.experiment)
    if found:
        return str(found.experiment_id)
    # absolute and beside the database, so that a server started anywhere finds the files
    file = sqlite_file(tracking.uri)
    location = (file.parent / "mlartifacts").as_uri() if file else None
    return str(client.create_experiment(tracking.experiment, artifact_location=location))
