"""`ipip-mace ui`: MLflow's own pages."""

from __future__ import annotations

import sys

import click

import ipip_ext


@click.command()
@click.option("--uri", default="sqlite:///mlflow.db", show_default=True, help="MLflow store.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True)
def ui(uri: str, host: str, port: int) -> None:
    """Open MLflow's own UI on this store."""
    sys.exit(ipip_ext.open_ui(uri, host, port))
