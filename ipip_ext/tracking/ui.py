"""MLflow's own pages on a store, and how a user is told of them."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import click

from ipip_ext.errors import UserError
from ipip_ext.recipe.tracking import Tracking
from ipip_ext.run.processes import end, safe_python
from ipip_ext.tracking.store import ENVIRONMENT, sqlite_file

_END_S = 10.0
"""Seconds that the server has to answer what it was asked when it shall end."""


def serve_ui(uri: str, host: str = "127.0.0.1", port: int = 5000) -> int:
    """Show `uri` in MLflow's own pages until Ctrl-C; return the exit code.

    Raises UserError when the sqlite file is not there.
    """
    if uri.startswith(("http://", "https://")):
        click.echo(f"The runs are kept by a server: open {uri} in a browser.")
        return 0
    file = sqlite_file(uri)
    if file and not file.is_file():
        raise UserError(f"{file} is not there; run a recipe first, or change to the folder you ran it in.")
    store = f"sqlite:///{file}" if file else uri if ":" in uri else str(Path(uri).absolute())
    command = [*safe_python(), "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    click.echo(f"MLflow: http://{host}:{port} (Ctrl-C ends it)")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which would leave the server behind
    environment = {**ENVIRONMENT, **os.environ, "PYTHONSAFEPATH": "1"}  # for the servers that it starts itself
    with tempfile.TemporaryDirectory() as nowhere:  # they put their working folder on the path
        server = subprocess.Popen(command, env=environment, cwd=nowhere)  # noqa: S603 - our own arguments
        try:
            return server.wait()
        except KeyboardInterrupt:
            end(server, within_s=_END_S)
            return 0


def run_url_hint(tracking: Tracking) -> str:
    """Return one line that says how to look at the runs."""
    if tracking.uri.startswith(("http://", "https://")):
        return f"open {tracking.uri}"
    if tracking.uri == "sqlite:///mlflow.db":
        return "mlflow ui  (or: ipip-mace ui) then http://127.0.0.1:5000"
    return f"mlflow ui --backend-store-uri {tracking.uri}  then http://127.0.0.1:5000"
