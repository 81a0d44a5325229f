"""Whether what a run folder claims holds: its files are those that were made, and its table is what they give.

Nothing of it runs anyone's code: students are read from safetensors, and what a calculator has said is taken from the
predictions that its evaluation stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.backends import registry
from ipip_ext.check import values
from ipip_ext.check.parts import problem_of
from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.errors import ModelFileError, WorkspaceError
from ipip_ext.measure.timing import finished
from ipip_ext.potentials.base import Potential
from ipip_ext.recipe.data import Ood
from ipip_ext.run import provenance
from ipip_ext.run.events import read_events
from ipip_ext.run.layout import EVENTS, TABLE, require_run
from ipip_ext.run.record import RECORD, damaged, read_record
from ipip_ext.stages.evaluate import predict, splits_of
from ipip_ext.stages.report import read_rows
from ipip_ext.teachers.load import load_potential
from ipip_ext.units import MEV_PER_EV

_RELATIVE, _ABSOLUTE = 1e-3, 1e-3
"""Another machine's float32 sums and the table's four digits stay well within; a choice of frames or model doesn't."""

_OUTSIDE = frozenset({"starts", "trusted", "teacher", "calculator", "trajectory", "strained"})
"""Inputs that may come from the user's files instead of an earlier stage; so may all of `prepare`."""

_BATCH = 32

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """One thing that a run folder says. problem: why it does not hold, "" if it does."""

    text: str
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is true."""
        return not self.problem

    def __str__(self) -> str:
        return f"holds  {self.text}" if self.holds else f"WRONG  {self.text}: {self.problem}"


def verify(folder: Path) -> list[Claim]:
    """Return every claim of the finished run in `folder`, checked; writes nothing.

    Raises WorkspaceError if there is no finished run.
    """
    require_run(folder)
    if not ((folder / "report" / RECORD).is_file() and (folder / TABLE).is_file()):
        raise WorkspaceError(f"{folder}: has no comparison yet; `ipip-mace status {folder}` tells where it stands.")
    records, claims = {}, []
    for stage in finished(folder):
        name = stage.relative_to(folder).as_posix()
        try:
            records[name] = read_record(stage, name)
            claims.append(Claim(f"outputs of {name}", _damage(stage, records[name])))
        except WorkspaceError as error:
            claims.append(Claim(f"outputs of {name}", str(error)))
    if lost := [name for name in ("prepare", "report") if name not in records]:
        gone = (f"outputs of {name}" for name in lost if not (folder / name / RECORD).exists())
        return claims + [Claim(text, f"there is no {RECORD}") for text in gone]
    claims.append(Claim("every input was made by a stage of this run", _strangers(folder, records)))
    claims.append(Claim("every stage's record says what the stage said when it ended", values.changed(folder, records)))
    claims += _published(folder, records["report"])
    if not any(claim.problem for claim in claims):  # else errors of what is broken anyway would hide why
        claims += _table(folder, records)
    return claims


def _damage(stage: Path, record: Record) -> str:
    broken = [f"{name} ({record['outputs'][name]['file']})" for name in damaged(stage, record)]
    return f"{', '.join(broken)} missing or changed since" if broken else ""


def _strangers(folder: Path, records: Mapping[str, Record]) -> str:
    """Return the first input that neither a stage made nor the user gave, "" if there is none.

    Only what the final table and model were made from is looked at: stages of an earlier recipe may lie beside them.
    """
    made = {entry["sha256"]: name for name, record in records.items() for entry in record["outputs"].values()}
    given = {
        value for event in read_events(folder / EVENTS) for value in event.data.get("data_sha256", {}).values()
    }  # fmt: skip
    rows = records["report"]["fingerprint"]["inputs"]["models"].values()
    roots = ["report", "model", "speed", *(f"{model['stage']}/evaluate" for model in rows)]
    ahead, seen = [name for name in roots if name in records], set()
    while ahead:
        name = ahead.pop()
        if name in seen or name == "prepare":
            continue
        seen.add(name)
        for path, sha256 in _hashes(records[name]["fingerprint"]["inputs"]):
            if sha256 in made:
                ahead.append(made[sha256])
            elif sha256 not in given and not _OUTSIDE & set(path):
                return f"{name}: input {'.'.join(path)} is the output of no stage"
    return ""


def _hashes(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (keys, hash) of every file among recorded inputs."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _hashes(inner, (*path, str(key)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _hashes(inner, (*path, str(index)))
    elif isinstance(value, str) and value.startswith("sha256:"):
        yield path, value.removeprefix("sha256:")


def _published(folder: Path, report: Record) -> Iterator[Claim]:
    """Yield whether the table and plots at the top of the folder are those of the report."""
    for entry in report["outputs"].values():
        path = folder / entry["file"]
        same = path.is_file() and provenance.sha256(path) == entry["sha256"]
        yield Claim(f"{entry['file']} is the report's", "" if same else "missing or changed since")


def _table(folder: Path, records: Mapping[str, Record]) -> Iterator[Claim]:
    """Yield whether the errors in the table are what models and stored predictions give on the test frames."""
    test = fr.read_frames(folder / "prepare" / records["prepare"]["outputs"]["test"]["file"])
    rows, report = read_rows(folder / TABLE), records["report"]
    asked, breakdown = report["fingerprint"]["inputs"]["exam"], report["outputs"]["breakdown"]["file"]
    models = {
        entry["sha256"]: folder / name / entry["file"]
        for name, record in records.items()
        for entry in record["outputs"].values()
    }
    for name, model in report["fingerprint"]["inputs"]["models"].items():
        mine = {row["split"]: row for row in rows if row["model"] == name}
        at = f"{model['stage']}/evaluate"
        if not model["stage"]:
            by = _divided(records["iter-00/evaluate"])
            yield _recomputed(name, "the final model", lambda: load_potential(folder), test, by, mine)
        elif at in records:
            inputs = records[at]["fingerprint"]["inputs"]
            files = {key: folder / at / entry["file"] for key, entry in records[at]["outputs"].items()}
            yield _stored(name, files["forces"], test, mine)
            if "test" in mine:
                evaluated = (files["per_frame"], files["forces"])
                problem = problem_of(name, folder / breakdown, evaluated, test, asked)
                yield Claim(f"errors by element and other parts of {name}, from its stored predictions", problem)
            student = inputs["model"]
            if "backend" in student and inputs["align"] is None:
                path = models[student["model"].removeprefix("sha256:")]
                where = path.relative_to(folder).as_posix()

                def load(path: Path = path, backend: str = student["backend"]) -> Potential:
                    engine = registry.backend(backend)
                    return engine.potential(engine.load(path), "cpu")

                yield _recomputed(name, where, load, test, _divided(records[at]), mine)


@dataclass(frozen=True)
class _Divided:
    """What divides test frames into splits, see `stages.inputs.Exam`."""

    ood: Ood | None
    sets: Sequence[tuple[str, int]]


def _divided(evaluated: Record) -> _Divided:
    told = evaluated["fingerprint"]["inputs"]
    return _Divided(None if told["ood"] is None else Ood(**told["ood"]), told.get("sets", ()))


def _recomputed(
    name: str, where: str, load: Any, test: Sequence[Atoms], by: _Divided, rows: Mapping[str, Mapping[str, Any]]
) -> Claim:  # fmt: skip
    """Ask a student about the test frames, and compare with its rows, by split."""
    text = f"errors of {name}, computed again from {where}"
    try:
        predictions = predict(load(), test, _BATCH)
    except ModelFileError as error:
        return Claim(text, str(error))
    problems = []
    for split, picked in splits_of(test, by).items():
        if split not in rows:
            problems.append(f"no row for {split}")
            continue
        found = metrics.errors([test[i] for i in picked], [predictions[i] for i in picked])
        problems += _differing(split, rows[split], {**found, "n_frames": len(picked)})
    return Claim(text, "; ".join(problems))


def _stored(name: str, forces: Path, test: Sequence[Atoms], rows: Mapping[str, Mapping[str, Any]]) -> Claim:
    """Compare force errors of stored predictions with the row of the whole test set, where there is one."""
    text = f"force errors of {name}, from its stored predictions"
    if "test" not in rows:
        return Claim(text)
    with np.load(forces, allow_pickle=False) as data:
        predicted, reference = data["predicted"], data["reference"]
    true = np.concatenate([fr.labels_where_known(frame).forces_eV_per_A for frame in test])
    if reference.shape != true.shape or not np.allclose(reference, true, atol=1e-6, equal_nan=True):
        return Claim(text, f"{forces}: its reference forces are not those of the test frames")
    off = (predicted - true) * MEV_PER_EV
    off = off[np.isfinite(off)]
    if not len(off):
        return Claim(text)
    found = {"force_mae_meV_per_A": np.abs(off).mean(), "force_rmse_meV_per_A": np.sqrt((off**2).mean())}
    return Claim(text, "; ".join(_differing("test", rows["test"], found)))


def _differing(split: str, row: Mapping[str, Any], found: Mapping[str, float]) -> list[str]:
    return [
        f"{split} {key} is {row[key]:g} in the table and {value:g} now"
        for key, value in found.items()
        if row.get(key) is not None and not math.isclose(row[key], value, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    ]
