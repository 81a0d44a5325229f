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
from ipip_ext.recipe.tracking import Tracking
from ipip_ext.run import lock
from ipip_ext.run.events import Event, read_events
from ipip_ext.run.layout import EVENTS
from ipip_ext.tracking.entries import translate
from ipip_ext.tracking.reading import Seen, Tail
from ipip_ext.tracking.runs import Runs
from ipip_ext.tracking.store import quiet, reason
from ipip_ext.tracking.ui import run_url_hint, serve_ui

__all__ = ["MlflowMirror", "replay", "run_url_hint", "serve_ui"]

log = logging.getLogger("ipip_ext")

FLUSH_EVERY_S = 2.0
FLUSH_SHARE = 0.02  # of the run's time at most, however slow the store
EVENTS_PER_COMMIT = 2000


class MlflowMirror:
    """Event sink that keeps MLflow up to date with `events.jsonl`.

    It must stand behind the JSON-lines sink. A store that fails is said once and tried again at the end of a stage, and
    the run goes on; what it lacks in the end `replay` mirrors later.
    """

    _runs: Runs | None

    def __init__(self, run_folder: Path, tracking: Tracking, run_name: str) -> None:
        self._folder, self._tracking, self._name = run_folder, tracking, run_name
        self._next = 0.0
        self._fails = False
        self._start_over()

    def __call__(self, event: Event) -> None:
        """Bring MLflow up to date if `event` ends something or the last time was a while ago."""
        if not self._is_due(event):
            return
        start = time.monotonic()
        try:
            self.catch_up()
            self._say_that_it_works()
        except Exception as error:  # noqa: BLE001 - tracking may never end a run
            self._say_that_it_fails(error)
            self._start_over()
        now = time.monotonic()
        self._next = now + max(FLUSH_EVERY_S, (now - start) / FLUSH_SHARE)

    def catch_up(self) -> int:
        """Log what MLflow lacks and return how many events that was.

        Raises WorkspaceError for a broken `tracking.json`, and what MLflow, sqlite or the disk raise.
        """
        with quiet():
            if self._runs is None:
                self._runs = Runs(self._folder, self._tracking, self._name)
            return self._log_new(self._runs)

    def renew(self) -> None:
        """Register the student anew where the code of its registered version is no longer today's."""
        if self._runs is not None:
            with quiet():
                self._runs.publish()

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run folder's own run; None while there is none."""
        return self._runs.ledger.runs.get("") if self._runs else None

    def _start_over(self) -> None:
        """Know nothing but what the ledger holds, as a new process does: an attempt may have ended anywhere."""
        self._runs = None
        self._lines = Tail(self._folder / EVENTS)
        self._read = 0
        self._seen = Seen()

    def _log_new(self, runs: Runs) -> int:
        mirrored = 0
        for event in self._lines.new():
            self._read += 1
            # what was mirrored by an earlier process is read again to know its points and parameters
            is_new = self._read > runs.ledger.mirrored
            for entry in translate(event):
                runs.note(entry)
                fresh = replace(entry, metrics=self._seen.new(entry))
                if is_new:
                    runs.log(fresh, event.time)
            mirrored += is_new
            if is_new and mirrored % EVENTS_PER_COMMIT == 0:
                runs.commit(self._read)
        if mirrored:
            runs.commit(self._read)
        return mirrored

    def _is_due(self, event: Event) -> bool:
        ends_stage = (event.kind, event.name) == ("stage", "finished")
        if self._fails:  # a run that is being stopped does not wait for a store that may be dead
            is_last = (event.kind, event.name) == ("run", "finished")
            return is_last or (ends_stage and time.monotonic() >= self._next)
        return ends_stage or event.kind == "run" or time.monotonic() >= self._next

    def _say_that_it_fails(self, error: Exception) -> None:
        if not self._fails:
            log.warning(
                "tracking stopped: %s The run goes on, and MLflow is tried again when a stage ends; if that fails too,"
                " `ipip-mace track %s` mirrors the run later.",
                reason(error),
                self._folder,
            )
        self._fails = True

    def _say_that_it_works(self) -> None:
        if self._fails:
            log.warning("tracking goes on: MLflow has all events by now")
        self._fails = False


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
            f"MLflow at {tracking.uri} can't be used: {reason(error)} "
            f"Check tracking.uri, start its server if it has one, then `ipip-mace track {run_folder}`."
        ) from error
