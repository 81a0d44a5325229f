"""What an event of a run means to its MLflow runs: metrics, parameters, tags, files. Needs no mlflow."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ipip_ext.run.events import Event
from ipip_ext.run.layout import MODEL
from ipip_ext.tracking.names import flat_name_of, name_of

CHILD_PARAMS = ("recipe.name", "seed", "student.hidden_irreps")
FIRST = ("test_force_mae_meV_per_A", "test_energy_mae_meV_per_atom", "md_step_ms")
"""The metrics that every page of MLflow's is to begin with."""
STOPPED = "ipip.stopped"
"""Tag: why a run was stopped."""
_WORK = "work"
"""First word of the keys of what only some runs have. MLflow sorts by key, and what can be compared should come first.

Words stand apart by dots, not by `/`, which makes a section of its own on MLflow's page of charts: those come before
all that have none.
"""
_DETAIL = re.compile(
    r"test.*_(ci95_(low|high)|p95|rmse)_.*|test.*_angle_deg|test.*_(force|energy|stress)_mae_(?!meV).*"
    r"|md_step_ms_\d+_atoms|md_sane_share_.+K|n_.+",
    re.DOTALL,
)
"""All but the errors, the speed and the stability that one looks for first: MLflow's page shows seven rows at once."""
_OF_CURVE = re.compile(r"test(_id|_ood)?_(force|energy)_mae_meV_per_(A|atom)")
"""What is drawn over iterations; each iteration's own run has all of it."""
MAX_VALUE = 6000  # MLflow's limit on the length of a parameter


@dataclass(frozen=True)
class Input:
    """A file that a run was given. role: train, valid, test or starts. source: its path."""

    role: str
    source: str
    sha256: str


@dataclass(frozen=True)
class Entry:
    """What one event adds to one run: "" for the parent, else the folder of a child.

    gone: tags that hold no more. ahead: metrics that are to stand before all others of the run and of its children.
    student: whether the final student is there now.
    """

    run: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    gone: Sequence[str] = ()
    ahead: Sequence[str] = ()
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
        params = _params(event.data)
        tags = {name_of(str(key)): _text(str(value)) for key, value in event.data.get("tags", {}).items()}
        ahead = FIRST if "seed" in params else ()  # a grid of runs has no errors of its own
        inputs = _inputs(event.data)
        return [Entry(params=params, tags=tags, gone=(STOPPED,), ahead=ahead, status="RUNNING", inputs=inputs)]
    if event.name == "finished":
        return [Entry(tags={"ipip.result": "final"}, status="FINISHED")]
    if event.name == "withdrawn":  # the numbers that stand there are of before
        return [Entry(tags={"ipip.result": f"withdrawn: {event.value}"[:MAX_VALUE]})]
    why = str(event.value or event.name)
    by_hand = re.search("interrupt|signal|kill|ctrl", why, re.IGNORECASE)
    return [Entry(tags={STOPPED: _text(why)}, status="KILLED" if by_hand else "FAILED")]


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
    entries = [Entry(run, metrics=metrics, tags={"role": _text(role), "ipip.model": _text(event.name)})]
    if role == "iteration" and run.startswith("iter-"):
        curve = {_key(_WORK, "iteration", key): value for key, value in metrics.items() if _OF_CURVE.fullmatch(key)}
        entries.append(Entry(metrics=curve, step=int(run.removeprefix("iter-"))))
    return entries


def _artifact(event: Event) -> list[Entry]:
    return [Entry(run_of(event.stage), artifact=str(event.value), student=event.value == MODEL)]


_KINDS = {"run": _run, "stage": _stage, "metric": _metric, "row": _row, "artifact": _artifact}


def _final(name: str) -> str:
    return _key(_WORK, "detail", name) if _DETAIL.fullmatch(name) else _key(name)


def _within(stage: str, name: str) -> str:
    # a baseline may have iterations of its own, whose curves must not fall on each other
    last = stage.partition("/")[2] if stage.startswith("baseline-") else stage.rsplit("/", 1)[-1]
    return _key(_WORK, *last.split("/"), name) if last else name_of(name)


def _key(*words: str) -> str:
    return flat_name_of(".".join(words))


def _params(data: Mapping[str, Any]) -> dict[str, str]:
    recipe = dict(data.get("recipe", {}))
    values = {"recipe.name": recipe["name"]} if "name" in recipe else {}
    values |= recipe
    if "baselines" in values:  # all of it is in recipe.yaml, an artifact; here it would fill a screen
        values["baselines"] = ", ".join(str(one.get("name", one["kind"])) for one in values["baselines"])
    for part in ("versions", "hardware", "data_sha256"):
        values |= {f"{part}.{key}": value for key, value in data.get(part, {}).items()}
    return {name_of(str(key)): _text(value) for key, value in values.items()}


def _inputs(data: Mapping[str, Any]) -> list[Input]:
    recipe, hashes = data.get("recipe", {}), data.get("data_sha256", {})
    keys = {role: "explore.starts" if role == "starts" else f"data.{role}" for role in hashes}
    return [Input(role, str(recipe[key]), str(hashes[role])) for role, key in keys.items() if recipe.get(key)]


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if isinstance(value, int | float)}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("utf-8", "replace").decode()[:MAX_VALUE]  # databases take no half of a surrogate pair
