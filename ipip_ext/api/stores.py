"""MLflow: mirroring a run that is not there yet, and MLflow's own pages."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from ipip_ext.api.recipes import load_recipe
from ipip_ext.api.runs import Run
from ipip_ext.api.said import log
from ipip_ext.compare.ablate_report import PLAN
from ipip_ext.errors import UserError
from ipip_ext.run import layout, state
from ipip_ext.tracking import mirror

_ITSELF = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Tracked:
    """What was mirrored: how many events, and to which store."""

    n_events: int
    uri: str

    def __str__(self) -> str:
        return f"{self.n_events} events mirrored to {self.uri}"


def track(run: Run | str | Path) -> Tracked:
    """Mirror a run, or all runs of an ablation's folder, to the MLflow store of its recipe, as far as it is not there.

    Raises UserError for a folder that is neither, if a run is at work there, or if the store can't be used.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    is_grid = (folder / PLAN).is_file()
    if not is_grid:
        layout.require_run(folder)
    tracking = load_recipe(folder / (PLAN if is_grid else layout.RECIPE)).tracking
    inner = sorted(path.parent for path in folder.glob(f"*/seed-*/{layout.EVENTS}"))
    with state.kept():
        return Tracked(sum(mirror.replay(one, tracking) for one in (folder, *inner)), tracking.uri)


def open_ui(uri: str = "sqlite:///mlflow.db", host: str = "127.0.0.1", port: int = 5000) -> int:
    """Show MLflow's own pages of a store until Ctrl-C ends them; return the exit code of its server.

    Raises UserError if the store is not there, or outside of the main thread, where no signal would end the server.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UserError("open_ui: works in the main thread alone; start `ipip-mace ui` in a terminal instead.")
    if host not in _ITSELF:
        log.warning("warning: whoever reaches %s:%s can read, change and delete these runs", host, port)
    before = signal.getsignal(signal.SIGTERM)
    try:
        return mirror.serve_ui(uri, host, port)
    finally:
        signal.signal(signal.SIGTERM, before)
