"""The half of tracking that doesn't need mlflow.

What events mean to runs, the memory of what was mirrored, and where the store is.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from ipip_ext.errors import UserError, WorkspaceError
from ipip_ext.recipe.tracking import Tracking
from ipip_ext.run import disk
from ipip_ext.run.events import Event

STUDENT = "model"  # the artifact that is the final student
CHILD_PARAMS = ("recipe.name", "seed", "student.hidden_irreps")
_WORK = "work/"
"""Start of the keys of what only some runs have: MLflow sorts by key, and what can be compared should come first."""
_DETAIL = re.compile(
    r"test.*_(ci95_(low|high)|p95|rmse)_.*|test.*_angle_deg|test.*_(force|energy|stress)_mae_(?!meV).*"
    r"|md_step_ms_\d+_atoms|md_sane_share_.+K|n_.+"
)
"""All but the errors, the speed and the stability that one looks for first: MLflow's page shows seven rows at once."""
_OF_CURVE = re.compile(r"test(_id|_ood)?_(force|energy)_mae_meV_per_(A|atom)")
"""What is drawn over iterations; each iteration's own run has all of it."""
MAX_VALUE = 6000  # MLflow's limit on the length of a parameter
MAX_KEY = 250  # and of a key
ENVIRONMENT = {  # all may be set otherwise by the user
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's own default keeps trying for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # jobs are for language models
}


@dataclass(frozen=True)
class Input:
    """A file that a run was given. role: train, valid, test or starts. source: its path."""

    role: str
    source: str
    sha256: str


@dataclass(frozen=True)
class Entry:
    """What one event adds to one run: "" for the parent, else the folder of a child.

    student: whether the final student is there now.
    """

    run: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifact: str | None = None
    status: str | None = None
    inputs: Sequence[Input] = ()
    student: bool = False


def translate(event: Event) -> list[Entry]:
    """Return what `event` adds to the runs; nothing for kinds that MLflow has no place for."""
    make = _KINDS.get(event.kind)
    return make(event) if make else []


def run_of(stage: str) -> str:
    """Return the run that a stage belongs to: its iteration, its baseline or "", the parent."""
    first = stage.split("/", maxsplit=1)[0]
    return first if re.fullmatch(r"iter-\d+|baseline-.+", first) else ""


def run_title(run: str) -> tuple[str, str]:
    """Return how a child is shown and its role: ("iteration 0", "iteration"), ("scratch", "baseline")."""
    kind, _, rest = run.partition("-")
    return (f"iteration {int(rest)}", "iteration") if kind == "iter" else (rest, "baseline")


def _run(event: Event) -> list[Entry]:
    if event.name == "started":
        tags = {str(key): str(value) for key, value in event.data.get("tags", {}).items()}
        return [Entry(params=_params(event.data), tags=tags, status="RUNNING", inputs=_inputs(event.data))]
    if event.name == "finished":
        return [Entry(status="FINISHED")]
    why = str(event.value or event.name)
    by_hand = re.search("interrupt|signal|kill|ctrl", why, re.IGNORECASE)
    return [Entry(tags={"ipip.stopped": why[:MAX_VALUE]}, status="KILLED" if by_hand else "FAILED")]


def _stage(event: Event) -> list[Entry]:
    run = run_of(event.stage)
    if event.name == "started":
        return [Entry(run, status="RUNNING")]
    if event.name != "finished":
        return []
    return [Entry(run, metrics=_numbers({_within(event.stage, "wall_s"): event.data.get("wall_s")}))]


def _metric(event: Event) -> list[Entry]:
    # an evaluation's errors are what the row says in the end: one key for both, there as soon as they are known
    is_final = event.stage.partition("/")[2] == "evaluate"
    metrics = _numbers({_final(event.name) if is_final else _within(event.stage, event.name): event.value})
    return [Entry(run_of(event.stage), metrics=metrics, step=event.step or 0)]


def _row(event: Event) -> list[Entry]:
    run, role = run_of(event.data.get("stage", event.stage)), str(event.data.get("role", ""))
    metrics = _numbers({_final(key): value for key, value in event.data.get("metrics", {}).items()})
    entries = [Entry(run, metrics=metrics, tags={"role": role, "ipip.model": event.name})]
    if role == "iteration" and run.startswith("iter-"):
        curve = {f"{_WORK}iteration/{key}": value for key, value in metrics.items() if _OF_CURVE.fullmatch(key)}
        entries.append(Entry(metrics=curve, step=int(run.removeprefix("iter-"))))
    return entries


def _artifact(event: Event) -> list[Entry]:
    return [Entry(run_of(event.stage), artifact=str(event.value), student=event.value == STUDENT)]


_KINDS = {"run": _run, "stage": _stage, "metric": _metric, "row": _row, "artifact": _artifact}


def _final(name: str) -> str:
    return f"{_WORK}detail/{name}" if _DETAIL.fullmatch(name) else name


def _within(stage: str, name: str) -> str:
    # a baseline may have iterations of its own, whose curves must not fall on each other
    last = stage.partition("/")[2] if stage.startswith("baseline-") else stage.rsplit("/", 1)[-1]
    return f"{_WORK}{last}/{name}" if last else name


def _params(data: Mapping[str, Any]) -> dict[str, str]:
    recipe = dict(data.get("recipe", {}))
    values = {"recipe.name": recipe["name"]} if "name" in recipe else {}
    values |= recipe
    if "baselines" in values:  # all of it is in recipe.yaml, an artifact; here it would fill a screen
        values["baselines"] = ", ".join(str(one.get("name", one["kind"])) for one in values["baselines"])
    for part in ("versions", "hardware", "data_sha256"):
        values |= {f"{part}.{key}": value for key, value in data.get(part, {}).items()}
    return {_key(key): _text(value) for key, value in values.items()}


def _inputs(data: Mapping[str, Any]) -> list[Input]:
    recipe, hashes = data.get("recipe", {}), data.get("data_sha256", {})
    keys = {role: "explore.starts" if role == "starts" else f"data.{role}" for role in hashes}
    return [Input(role, str(recipe[key]), str(hashes[role])) for role, key in keys.items() if recipe.get(key)]


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {_key(key): float(value) for key, value in values.items() if isinstance(value, int | float)}


def _key(key: str) -> str:
    # MLflow refuses other characters, and // because a key may become a path
    return re.sub(r"/+", "/", re.sub(r"[^\w\-. :/]", "_", key, flags=re.ASCII)).strip("/")[:MAX_KEY]


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value, default=str))[:MAX_VALUE]


class Tail:
    """Reads a growing file of events; each is handed out once, when its line is complete."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> Iterator[Event]:
        """Yield the events since the last call; raise OSError when the file can't be read."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        for line in text.splitlines():
            with suppress(ValueError, TypeError, RecursionError):  # cut short by a kill; whoever reads the file says so
                yield Event(**json.loads(line))


class Seen:
    """Points of curves already mirrored, so that what a resumed run says again isn't logged again."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str, int], float] = {}

    def new(self, entry: Entry) -> dict[str, float]:
        """Return the metrics of `entry` that are new or have changed, and remember them."""
        fresh = {}
        for key, value in entry.metrics.items():
            point = (entry.run, key, entry.step)
            if point not in self._last or not _same(self._last[point], value):
                self._last[point] = fresh[key] = value
        return fresh


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


class Ledger:
    """`tracking.json`: for each store which MLflow runs are ours and how many events they hold.

    Raises WorkspaceError when the file is there but can't be understood.
    """

    def __init__(self, path: Path, store: str, experiment: str) -> None:
        self.path = path
        try:
            self._stores: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
            mine = self._stores.get(store, {})
            self.runs: dict[str, str] = {}
            self.mirrored = 0
            if mine.get("experiment") == experiment:
                self.runs, self.mirrored = dict(mine["runs"]), int(mine["mirrored"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WorkspaceError(f"{path} is broken; delete it and run `ipip-mace track {path.parent}`.") from error
        self._store, self._experiment = store, experiment

    def forget(self) -> None:
        """Start anew: no runs, no events mirrored."""
        self.runs, self.mirrored = {}, 0

    def save(self) -> None:
        """Write the file, whole or not at all."""
        mine = {"experiment": self._experiment, "runs": self.runs, "mirrored": self.mirrored}
        self._stores[self._store] = mine
        disk.write(self.path, json.dumps(self._stores, indent=1, sort_keys=True) + "\n")


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
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    click.echo(f"MLflow: http://{host}:{port} (Ctrl-C ends it)")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which would leave the server behind
    server = subprocess.Popen(command, env={**ENVIRONMENT, **os.environ})  # noqa: S603 - our own arguments
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return 0


def run_url_hint(tracking: Tracking) -> str:
    """Return one line that says how to look at the runs."""
    if tracking.uri.startswith(("http://", "https://")):
        return f"open {tracking.uri}"
    if tracking.uri == "sqlite:///mlflow.db":
        return "mlflow ui  (or: ipip-mace ui) then http://127.0.0.1:5000"
    return f"mlflow ui --backend-store-uri {tracking.uri}  then http://127.0.0.1:5000"
