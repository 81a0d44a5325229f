"""The MLflow runs of one run folder: a parent, and a child for each iteration and baseline."""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipip_ext import __version__
from ipip_ext.recipe.tracking import Tracking
from ipip_ext.run.printable import one_line
from ipip_ext.tracking import artifacts
from ipip_ext.tracking.entries import CHILD_PARAMS, Entry, Input, run_title
from ipip_ext.tracking.ledger import LEDGER, Ledger
from ipip_ext.tracking.models import publish
from ipip_ext.tracking.names import model_name_of, name_of
from ipip_ext.tracking.store import connect, reason, store_name

log = logging.getLogger("ipip_ext")

METRICS_PER_BATCH = 1000  # MLflow's limits on one request
PARAMS_PER_BATCH = 100
MAX_DIGEST = 36  # and on the digest of a dataset
REFUSED = "INVALID_PARAMETER_VALUE"  # MLflow's word for what it will not take at any time


class Runs:
    """The MLflow runs of one run folder: a parent and its nested children, made when first needed."""

    def __init__(self, run_folder: Path, tracking: Tracking, run_name: str) -> None:
        self._folder, self._name, self._registers = run_folder, run_name, tracking.register_model
        self._client, self._experiment = connect(tracking.uri, tracking.experiment)
        self.ledger = Ledger(run_folder / LEDGER, store_name(tracking.uri, run_folder), tracking.experiment)
        if not all(self._exists(run) for run in self.ledger.runs.values()):
            self.ledger.forget()
        self._metrics: defaultdict[str, list[Any]] = defaultdict(list)
        self._child_params: dict[str, str] = {}
        self._inputs: Sequence[Input] = ()
        self._ahead: Sequence[str] = ()
        self._current = ""  # the run of the stage under way
        self._has_student = False

    def note(self, entry: Entry) -> None:
        """Remember what later entries depend on."""
        self._child_params |= {key: entry.params[key] for key in CHILD_PARAMS if key in entry.params}
        self._inputs = entry.inputs or self._inputs
        self._ahead = entry.ahead or self._ahead
        if entry.status == "RUNNING":
            self._current = entry.run
        self._has_student |= entry.student

    def log(self, entry: Entry, seconds: float) -> None:
        """Log `entry`; its metrics wait for `commit`."""
        from mlflow.entities import Metric

        run_id, when = self._id(entry.run, seconds), int(seconds * 1000)
        self._metrics[run_id] += [Metric(key, value, when, entry.step) for key, value in entry.metrics.items()]
        self._log_params(run_id, entry.params)
        self._log_inputs(run_id, entry.inputs)
        self._tag(run_id, entry)
        if entry.artifact is not None:
            with self._unless_refused(run_id, f"the file {entry.artifact}"):
                artifacts.upload(self._client, run_id, self._folder, entry.run, entry.artifact)
        if entry.student:
            self.publish()
        if entry.status == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        elif entry.status is not None:
            self._end(entry.status, when)

    def publish(self) -> None:
        """Register the student, if the run has one by now and no version holds it with the code of today."""
        if self._registers and self._has_student and "" in self.ledger.runs:
            publish(self._client, self._experiment, self.ledger.runs[""], model_name_of(self._name), self._folder)

    def commit(self, mirrored: int) -> None:
        """Send the metrics that wait, then write down that `mirrored` events are in the store."""
        for run_id, metrics in self._metrics.items():
            for start in range(0, len(metrics), METRICS_PER_BATCH):
                self._send(run_id, metrics[start : start + METRICS_PER_BATCH])
        self._metrics.clear()
        self.ledger.mirrored = mirrored
        self.ledger.save()

    def _id(self, run: str, seconds: float) -> str:
        if run not in self.ledger.runs:
            parent = self._id("", seconds) if run else None
            self.ledger.runs[run] = self._create(run, parent, seconds)
            self.ledger.save()  # at once: a kill must not leave a run in the store that nobody knows
            self._take_places(self.ledger.runs[run], seconds)
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
                "their final metrics have the same names, so select them and press Compare. NaN: not measured yet."
            )
        made = self._client.create_run(self._experiment, int(seconds * 1000), tags, run_name=title)
        return str(made.info.run_id)

    def _take_places(self, run_id: str, seconds: float) -> None:
        """Log what is to stand first as not known yet: MLflow shows the metrics of a run in the order of their coming.

        A moment before the run began, so that whatever is measured counts as later.
        """
        from mlflow.entities import Metric

        if self._ahead:
            places = [Metric(key, math.nan, int(seconds * 1000) - 1, 0) for key in self._ahead]
            self._client.log_batch(run_id, metrics=places)

    def _tag(self, run_id: str, entry: Entry) -> None:
        for key, value in entry.tags.items():
            with self._unless_refused(run_id, f"the tag {key}"):
                self._client.set_tag(run_id, key, value)
        there = self._client.get_run(run_id).data.tags if entry.gone else {}
        for key in there.keys() & set(entry.gone):
            self._client.delete_tag(run_id, key)

    def _send(self, run_id: str, metrics: Sequence[Any]) -> None:
        """Log metrics; where MLflow refuses one of them, the others without it."""
        from mlflow.exceptions import MlflowException

        if len(metrics) == 1:
            with self._unless_refused(run_id, f"the metric {metrics[0].key}"):
                self._client.log_batch(run_id, metrics=metrics)
            return
        try:
            self._client.log_batch(run_id, metrics=metrics)
        except MlflowException as error:
            if error.error_code != REFUSED:
                raise
            half = len(metrics) // 2
            self._send(run_id, metrics[:half])
            self._send(run_id, metrics[half:])

    @contextmanager
    def _unless_refused(self, run_id: str, what: str) -> Iterator[None]:
        """Go on with a warning if MLflow refuses `what` for its content; a run that is gone is another matter."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if error.error_code != REFUSED or not self._exists(run_id):
                raise
            log.warning("MLflow does not take %s of %s: %s", one_line(what), self._folder, reason(error))

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log parameters; one that has changed since becomes a tag, as MLflow's can't change."""
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(run_id).data.params if params else {}
        new = [Param(key, value) for key, value in params.items() if key not in known]
        differ = [key for key in params if known.get(key, params[key]) != params[key]]
        changed = [RunTag(name_of(f"resumed.{key}"), params[key]) for key in differ]
        for start in range(0, max(len(new), len(changed)), PARAMS_PER_BATCH):
            part = slice(start, start + PARAMS_PER_BATCH)
            with self._unless_refused(run_id, "parameters"):
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
            with self._unless_refused(run_id, "inputs"):
                self._client.log_inputs(run_id, found)

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
