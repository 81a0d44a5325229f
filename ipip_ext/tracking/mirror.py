"""MLflow: a run's events mirrored to where runs are compared. The only importer of mlflow.

`events.jsonl` is the truth. Live or later, mirroring is the same act: read it from where the
mirror stands and log what is missing.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ipip_ext import __version__
from ipip_ext.errors import UserError
from ipip_ext.recipe.tracking import Tracking
from ipip_ext.run import disk, lock
from ipip_ext.run.events import Event, read_events
from ipip_ext.tracking.models import publish
from ipip_ext.tracking.store import (
    CHILD_PARAMS,
    ENVIRONMENT,
    Entry,
    Input,
    Ledger,
    Seen,
    Tail,
    check_sqlite,
    run_title,
    run_url_hint,
    serve_ui,
    sqlite_file,
    store_name,
    translate,
)

__all__ = ["MlflowMirror", "replay", "run_url_hint", "serve_ui"]

log = logging.getLogger("ipip_ext")

EVENTS = "events.jsonl"
LEDGER = "tracking.json"
FLUSH_EVERY_S = 2.0
FLUSH_SHARE = 0.02  # of the run's time at most, however slow the store
METRICS_PER_BATCH = 1000  # MLflow's limits on one request
PARAMS_PER_BATCH = 100
MAX_DIGEST = 36  # and on the digest of a dataset
EVENTS_PER_COMMIT = 2000


class MlflowMirror:
    """Event sink that keeps MLflow up to date with `events.jsonl`.

    It must stand behind the JSON-lines sink. Whatever goes wrong is said once; the run goes on,
    and `replay` mirrors the rest later.
    """

    def __init__(self, run_folder: Path, tracking: Tracking, run_name: str) -> None:
        self._folder, self._tracking, self._name = run_folder, tracking, run_name
        self._runs: _Runs | None = None
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
            self._runs = _Runs(self._folder, self._tracking, self._name)
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

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run folder's own run; None while there is none."""
        return self._runs.ledger.runs.get("") if self._runs else None

    def _is_due(self, event: Event) -> bool:
        ends_something = event.kind == "run" or (event.kind == "stage" and event.name == "finished")
        return ends_something or time.monotonic() >= self._next


class _Runs:
    """The MLflow runs of one run folder: a parent and its nested children, made when first needed."""

    def __init__(self, run_folder: Path, tracking: Tracking, run_name: str) -> None:
        self._folder, self._name, self._registers = run_folder, run_name, tracking.register_model
        self._client = _connect(tracking.uri)
        self._experiment = _experiment_id(self._client, tracking)
        self.ledger = Ledger(run_folder / LEDGER, store_name(tracking.uri, run_folder), tracking.experiment)
        if not all(self._exists(run) for run in self.ledger.runs.values()):
            self.ledger.forget()
        self._metrics: defaultdict[str, list[Any]] = defaultdict(list)
        self._child_params: dict[str, str] = {}
        self._inputs: Sequence[Input] = ()
        self._current = ""  # the run of the stage under way

    def note(self, entry: Entry) -> None:
        """Remember what later entries depend on."""
        self._child_params |= {key: entry.params[key] for key in CHILD_PARAMS if key in entry.params}
        self._inputs = entry.inputs or self._inputs
        if entry.status == "RUNNING":
            self._current = entry.run

    def log(self, entry: Entry, seconds: float) -> None:
        """Log `entry`; its metrics wait for `commit`."""
        from mlflow.entities import Metric

        run_id, when = self._id(entry.run, seconds), int(seconds * 1000)
        self._metrics[run_id] += [Metric(key, value, when, entry.step) for key, value in entry.metrics.items()]
        self._log_params(run_id, entry.params)
        self._log_inputs(run_id, entry.inputs)
        for key, value in entry.tags.items():
            self._client.set_tag(run_id, key, value)
        if entry.artifact is not None:
            self._upload(run_id, entry.run, entry.artifact)
        if entry.student and self._registers:
            publish(self._client, self._experiment, run_id, self._name, self._folder)
        if entry.status == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        elif entry.status is not None:
            self._end(entry.status, when)

    def commit(self, mirrored: int) -> None:
        """Send the metrics that wait, then write down that `mirrored` events are in the store."""
        for run_id, metrics in self._metrics.items():
            for start in range(0, len(metrics), METRICS_PER_BATCH):
                self._client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])
        self._metrics.clear()
        self.ledger.mirrored = mirrored
        self.ledger.save()

    def _id(self, run: str, seconds: float) -> str:
        if run not in self.ledger.runs:
            parent = self._id("", seconds) if run else None
            self.ledger.runs[run] = self._create(run, parent, seconds)
            self.ledger.save()  # at once: a kill must not leave a run in the store that nobody knows
            if parent:
                self._log_params(self.ledger.runs[run], self._child_params)
                self._log_inputs(self.ledger.runs[run], self._inputs)
        return self.ledger.runs[run]

    def _create(self, run: str, parent: str | None, seconds: float) -> str:
        title, role = run_title(run) if parent else (self._name, "ipip")
        tags = {
            "role": role,
            "ipip.run_folder": str(self._folder.absolute()),
            "ipip.version": __version__,
            "mlflow.source.name": "ipip-mace",
        }
        if parent:
            tags["mlflow.parentRunId"] = parent
        else:
            tags["mlflow.note.content"] = (
                f"Mirror of `{self._folder.absolute()}`. Nested: one run for each iteration and baseline; "
                "their final metrics have the same names, so select them and press Compare."
            )
        made = self._client.create_run(self._experiment, int(seconds * 1000), tags, run_name=title)
        return str(made.info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log parameters; one that has changed since becomes a tag, as MLflow's can't change."""
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(run_id).data.params if params else {}
        new = [Param(key, value) for key, value in params.items() if key not in known]
        changed = [
            RunTag(f"resumed.{key}", params[key]) for key in params if known.get(key, params[key]) != params[key]
        ]
        for start in range(0, max(len(new), len(changed)), PARAMS_PER_BATCH):
            part = slice(start, start + PARAMS_PER_BATCH)
            self._client.log_batch(run_id, params=new[part], tags=changed[part])

    def _log_inputs(self, run_id: str, inputs: Sequence[Input]) -> None:
        """Log files as MLflow's datasets; one that is there already is not logged twice."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        found = [
            DatasetInput(
                Dataset(
                    name=Path(one.source).name,
                    digest=one.sha256[:MAX_DIGEST],
                    source_type="local",
                    source=json.dumps({"uri": one.source}),
                    profile=json.dumps({"sha256": one.sha256}),
                ),
                [InputTag("mlflow.data.context", one.role)],
            )
            for one in inputs
        ]
        if found:
            self._client.log_inputs(run_id, found)

    def _upload(self, run_id: str, run: str, artifact: str) -> None:
        path = self._folder / artifact
        if _leads_out(path, self._folder):
            log.warning("%s names %s, outside of the run folder, so MLflow does not get it", EVENTS, artifact)
            return
        inside = Path(artifact)
        if run and inside.parts[:1] == (run,):
            inside = inside.relative_to(run)
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), inside.as_posix())
        elif path.is_file():
            folder = inside.parent.as_posix()
            self._client.log_artifact(run_id, str(path), None if folder == "." else folder)
        else:
            log.warning("%s is not there, so MLflow does not get it", path)

    def _end(self, status: str, when: int) -> None:
        for run, run_id in self.ledger.runs.items():
            was_under_way = run in {"", self._current}  # the other children were complete
            self._client.set_terminated(run_id, status if was_under_way else "FINISHED", when)

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise


def replay(run_folder: Path, tracking: Tracking) -> int:
    """Mirror what MLflow lacks of the events in `run_folder`; return how many events that was.

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
            return MlflowMirror(run_folder, tracking, name).catch_up()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow at {tracking.uri} can't be used: {_reason(error)} "
            f"Check tracking.uri, start its server if it has one, then `ipip-mace track {run_folder}`."
        ) from error


def _leads_out(path: Path, folder: Path) -> bool:
    """Return whether `path`, or a link in it, leads out of `folder`: a foreign run could have any file uploaded."""
    return not all(disk.is_inside(each, folder) for each in (path, *path.rglob("*")))


def _connect(uri: str) -> Any:
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    check_sqlite(uri)
    from mlflow.tracking import MlflowClient

    for noisy in ("mlflow.store.db.utils", "alembic", "urllib3.connectionpool"):
        logging.getLogger(noisy).setLevel(logging.ERROR)  # what fails is raised, and said once
    file = sqlite_file(uri)
    # absolute, because MLflow keeps a store by its URI, and a process may change its working directory
    return MlflowClient(tracking_uri=f"sqlite:///{file}" if file and "?" not in uri else uri)


def _experiment_id(client: Any, tracking: Tracking) -> str:
    found = client.get_experiment_by_name(tracking.experiment)
    if found:
        return str(found.experiment_id)
    # absolute and beside the database, so that a server started anywhere finds the files
    file = sqlite_file(tracking.uri)
    location = (file.parent / "mlartifacts").as_uri() if file else None
    return str(client.create_experiment(tracking.experiment, artifact_location=location))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if len(lines[0]) <= 200 else f"{lines[0][:200]}..."
    return f"{type(error).__name__}: {text.removesuffix('.')}."
