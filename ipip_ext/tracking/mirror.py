"""MLflow: a run's events mirrored to where runs are compared. The only importer of mlflow.

`events.jsonl` is the truth. Live or later, mirroring is the same act: read it from where the
mirror stands and log what is missing.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from ipip_ext.errors import UserError
from ipip_ext.recipe.recipe import Tracking
from ipip_ext.run import lock
from ipip_ext.run.events import Event, read_events
from ipip_ext.run.layout import EVENTS
from ipip_ext.tracking.entries import translate
from ipip_ext.tracking.reading import Seen, Tail
from ipip_ext.tracking.runs import Runs
from ipip_ext.tracking.ui import run_url_hint, serve_ui

__all__ = ["MlflowMirror", "replay", "run_url_hint", "serve_ui"]

log = logging.getLogger("ipip_ext")

FLUSH_EVERY_S = 2.0
FLUSH_SHARE = 0.02  # of the run's time at most, however slow the store
EVENTS_PER_COMMIT = 2000


class MlflowMirror:
    """Event sink that keeps MLflow up to date with `events.jsonl`.

    It must stand behind the JSON-lines sink. Whatever goes wrong is said once; the run goes on,
    and `replay` mirrors the rest later.
    """

    def __init__(self, run_folder: Path, tracking: Tracking, run_name: str) -> None:
        self._folder, self._tracking, self._name = run_folder, tracking, run_name
        self._runs: Runs | None = None
        self._lines = Tail(run_folder / EVENTS)
        self._read = 0
        self._seen = Seen()
        self._next = 0.0
        self._given_up = False

    def __call__(self, event: Event) -> None:
        """Bring MLflow up to date if `event` ends something or the last time was a while ago."""
        if self._given_up or not self._is_due(event):
            return
        try:
            self.catch_up()
        except Exception as error:  # noqa: BLE001 - tracking may never end a run
            self._given_up = True
            log.warning(
                "tracking stopped: %s The run goes on; `ipip-mace track %s` mirrors it later.",
                _reason(error),
                self._folder,
            )

    def catch_up(self) -> int:
        """Log what MLflow lacks and return how many events that was.

        Raises WorkspaceError for a broken `tracking.json`, and what MLflow, sqlite or the disk raise.
        """
        if self._runs is None:
            self._runs = Runs(self._folder, self._tracking, self._name)
        ledger, mirrored, start = self._runs.ledger, 0, time.monotonic()
        for event in self._lines.new():
            self._read += 1
            # what was mirrored by an earlier process is read again to know its points and parameters
            is_new = self._read > ledger.mirrored
            for entry in translate(event):
                self._runs.note(entry)
                fresh = replace(entry, metrics=self._seen.new(entry))
                if is_new:
                    self._runs.log(fresh, event.time)
            mirrored += is_new
            if is_new and mirrored % EVENTS_PER_COMMIT == 0:
                self._runs.commit(self._read)
        if mirrored:
            self._runs.commit(self._read)
        self._next = time.monotonic() + max(FLUSH_EVERY_S, (time.monotonic() - start) / FLUSH_SHARE)
        return mirrored

    def renew(self) -> None:
        """Register the student anew where the code of its registered version is no longer today's."""
        if self._runs is not None:
            self._runs.publish()

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run folder's own run; None while there is none."""
        return self._runs.ledger.runs.get("") if self._runs else None

    def _is_due(self, event: Event) -> bool:
        ends_something = event.kind == "run" or (event.kind == "stage" and event.name == "finished")
        return ends_something or time.monotonic() >= self._next


def replay(run_folder: Path, tracking: Tracking) -> int:
    """Mirror what MLflow lacks of the events in `run_folder`; return how many events that was.

    A registered student whose code is not today's gets another version.
    Raises UserError when there is nothing to mirror, a run is at work there (it mirrors itself), or the store can't be
    used.
    """
    events = run_folder / EVENTS
    if not events.is_file():
        raise UserError(f"{events} is not there; give the folder of a run, such as runs/NAME.")
    recipes = (event.data.get("recipe", {}) for event in read_events(events) if event.kind == "run")
    name = next((recipe["name"] for recipe in recipes if "name" in recipe), run_folder.absolute().name)
    try:
        with lock.held(run_folder):
            mirror = MlflowMirror(run_folder, tracking, name)
            mirrored = mirror.catch_up()
            mirror.renew()
            return mirrored
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow at {tracking.uri} can't be used: {_reason(error)} "
            f"Check tracking.uri, start its server if it has one, then `ipip-mace track {run_folder}`."
        ) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if len(lines[0]) <= 200 else f"{lines[0][:200]}..."
    return f"{type(error).__name__}: {text.removesuffix('.')}."
