"""Where the store is, and how it is reached."""

from __future__ import annotations

import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ipip_ext.run.printable import one_line
from ipip_ext.tracking import making

BUSY_S = 5.0
"""How long another process may be at work in a database."""
MAX_REASON = 200
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


def check_sqlite(file: Path) -> None:
    """Raise sqlite3.Error or OSError when `file` can't be written.

    MLflow would try it again for minutes; sqlite itself says at once what is wrong.
    """
    with closing(sqlite3.connect(file, timeout=BUSY_S)) as database:
        database.execute("BEGIN IMMEDIATE")


def connect(uri: str, experiment: str) -> tuple[Any, str]:
    """Return MLflow's client of the store `uri`, and its id of an experiment; both are made if they are not there.

    Raises what sqlite and the disk raise, at once, and what MLflow raises.
    """
    _set_environment()
    from mlflow.tracking import MlflowClient

    file = sqlite_file(uri)
    if file is None:
        client = MlflowClient(tracking_uri=uri)
        return client, _experiment_id(client, experiment, None)
    file.parent.mkdir(parents=True, exist_ok=True)
    with making.alone(file):
        making.make(file, _make_tables)
        check_sqlite(file)
        # absolute, because MLflow keeps a store by its URI, and a process may change its working directory
        client = MlflowClient(tracking_uri=uri if "?" in uri else f"sqlite:///{file}")
        # absolute and beside the database, so that a server started anywhere finds the files
        return client, _experiment_id(client, experiment, (file.parent / "mlartifacts").as_uri())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow and what it stands on from speaking: what fails is raised, and said once."""
    _set_environment()
    import mlflow  # noqa: F401 - which sets up its logging when it is first imported

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3.connectionpool")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def reason(error: Exception) -> str:
    """Return what an error says as one short sentence."""
    lines = str(error).strip().splitlines() or [""]
    text = one_line(lines[0] if len(lines[0]) <= MAX_REASON else f"{lines[0][:MAX_REASON]}...")
    return f"{type(error).__name__}: {text.removesuffix('.')}."


def _set_environment() -> None:
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def _make_tables(file: Path) -> None:
    from mlflow.tracking import MlflowClient

    check_sqlite(file)
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments(max_results=1)


def _experiment_id(client: Any, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)  # another run was faster
    return str(found.experiment_id)
