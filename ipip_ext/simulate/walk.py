"""MD with a finished model in a folder of its own, by the engine that also samples for a run."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io.formats import string2index
from pydantic import ValidationError

from ipip_ext import md
from ipip_ext.data import frames as fr
from ipip_ext.errors import CalculatorError, DataError, RecipeError, StageFailed, UserError, WorkspaceError
from ipip_ext.md.replicas import content_of, fixed_atoms, start_name
from ipip_ext.potentials.base import Potential
from ipip_ext.potentials.compute import require_stress, words
from ipip_ext.recipe.schema import explain
from ipip_ext.recipe.walk import Explore
from ipip_ext.run import disk, lock, provenance, signals
from ipip_ext.run.console import LogFile, duration
from ipip_ext.run.events import Event, EventBus, Sink
from ipip_ext.run.plain import flatten
from ipip_ext.simulate.files import Written, write_json
from ipip_ext.simulate.summary import summarise
from ipip_ext.teachers.load import model_folder

PARAMETERS, SUMMARY, PROGRESS = "parameters.json", "summary.json", "log.txt"
_WALK, _STAGE = "walk", "md"


@dataclass(frozen=True)
class Plan:
    """MD to be done. parameters: what decides its results, as JSON data; contents count, not paths."""

    starts: list[Atoms]
    settings: Explore
    seed: int
    parameters: dict[str, Any]


def settings_of(structure: str, *, time_ps: float, timestep_fs: float, frame_every: int | None, **keys: Any) -> Explore:
    """Return MD settings for a walk of `time_ps`. keys: of `Explore`. Raises RecipeError."""
    if not (math.isfinite(time_ps) and math.isfinite(timestep_fs)):
        raise RecipeError("md: time_ps and timestep_fs must be finite numbers.")
    n_steps = round(1000 * time_ps / timestep_fs)
    if n_steps < 1:
        raise RecipeError(f"md: time_ps {time_ps:g} is less than one step of {timestep_fs:g} fs; walk for longer.")
    every = min(20, n_steps) if frame_every is None else frame_every
    values = {**keys, "timestep_fs": timestep_fs, "n_steps": n_steps, "frame_every": every}
    try:
        return Explore(starts=Path(structure), **values)
    except ValidationError as error:
        raise explain(error, Explore, "md") from None


def read_starts(structure: str, supercell: tuple[int, int, int] = (1, 1, 1)) -> list[Atoms]:
    """Return the structures of `file` or `file@index`, repeated. index: a number or a slice, as ASE has it.

    Raises DataError for a file that can't be read, an index without structures, and a cell that can't be repeated.
    """
    path, index = Path(structure), ":"
    if not path.exists() and "@" in structure:
        file, _, index = structure.rpartition("@")
        path = Path(file)
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path of the structure.")
    return repeated(_chosen(fr.read_structures(path), index, path), supercell, str(path))


def repeated(starts: Sequence[Atoms], supercell: tuple[int, int, int], where: str) -> list[Atoms]:
    """Return the structures repeated. where: how errors name them. Raises DataError where a cell can't be repeated."""
    for number, start in enumerate(starts):
        for axis, times in enumerate(supercell):
            if times > 1 and not start.pbc[axis]:
                raise DataError(
                    f"{where}: structure {number} is not periodic along cell vector {axis + 1}, so it can't be repeated"
                    " there; take 1 in supercell."
                )
    return [start.repeat(supercell) for start in starts]


def plan(model: str | Mapping[str, Any], starts: list[Atoms], settings: Explore, seed: int) -> Plan:
    """Return what is to be done. model: a folder, a file or a calculator entry.

    Raises DataError for starts that can't move so, ModelFileError without a model.
    """
    md.check_starts(starts, settings.ensemble)
    parameters = {
        "model": _identity(model),
        "structure_sha256": _digest(starts),
        "seed": seed,
        **settings.model_dump(mode="json", exclude={"starts", "max_trajectory_GB"}),
    }
    return Plan(starts, settings, seed, parameters)


def finished(plan: Plan, folder: Path) -> dict[str, Any] | None:
    """Return the summary if `folder` holds this very MD from beginning to end; writes nothing.

    Raises WorkspaceError if another process is at work there, or if the folder holds anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise WorkspaceError(f"{folder}: is a file; name a folder with --out.")
    if not folder.exists():
        return None
    lock.refuse_if_held(folder)
    _refuse_other(plan, folder)
    path = folder / SUMMARY
    return _read(path) if path.exists() else None


def check(potential: Potential, plan: Plan) -> None:
    """Raise DataError if `potential` can't label a start, CalculatorError if it lacks the stress that NPT needs.

    Raises RecipeError if the engine is not installed or can't walk with it.
    """
    md.check_engine(plan.settings.engine, potential)
    first_of: dict[frozenset[str], int] = {}
    for number, start in enumerate(plan.starts):
        first_of.setdefault(frozenset(start.get_chemical_symbols()), number)
    for number in first_of.values():
        start = plan.starts[number]
        try:
            potential.compute([start])
        except UserError as error:
            raise DataError(f"{start_name(start, number)}: {error}") from None
        except Exception as error:
            raise CalculatorError(
                f"{start_name(start, number)}: the model fails for it ({words(error)}); mend it, or take another model."
            ) from error
    if plan.settings.ensemble == "npt":
        require_stress(potential, plan.starts[0])


def run(plan: Plan, potential: Potential, folder: Path, *, show: Sink | None = None) -> dict[str, Any]:
    """Walk as planned in `folder`, or go on where it stands; return the summary.

    show: a sink of events for those who watch.
    Leaves trajectory.extxyz, log.csv, log.txt, parameters.json and summary.json.
    Raises UserError as `check` and `finished` do, before anything is written; StageFailed if there is not one frame.
    """
    check(potential, plan)
    finished(plan, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"{folder}: can't be written ({error.strerror}); use --out for another place.") from None
    with lock.held(folder):
        _refuse_other(plan, folder)  # whoever had the lock since may have done something else here
        try:
            write_json(folder / PARAMETERS, plan.parameters)
            return _run(plan, potential, folder, show)
        except Exception as error:
            if why := disk.trouble(error):
                raise WorkspaceError(
                    f"{folder}: can't be written ({why}). Mend that, and the same command goes on from the last commit."
                ) from error
            raise


def _run(plan: Plan, potential: Potential, folder: Path, show: Sink | None) -> dict[str, Any]:
    bus = EventBus([signals.at_safe_points, LogFile(folder / PROGRESS)])
    if show is not None:
        bus.sinks.append(show)
    bus.emit(Event("stage", "started", stage=_STAGE))
    if said := md.too_long(plan.settings.timestep_fs, plan.starts):
        bus.emit(Event("note", said, stage=_STAGE))
    replicas = md.plan_replicas(plan.starts, plan.settings, plan.seed, f"seed{plan.seed}")
    written = Written(folder, _WALK, replicas, plan.settings)
    pace = _pace()

    def tell(done: int, total: int, text: str) -> None:
        written.update()
        bus.emit(Event("progress", _STAGE, done / total, _STAGE, data={"text": text + pace(done, total)}))

    try:
        walked = md.run(potential, replicas, plan.settings, folder / _WALK, tell)
    except BaseException as error:
        if isinstance(error, signals.Stopped):
            written.update()  # what MD committed on being stopped
        bus.emit(Event("run", "stopped", f"{type(error).__name__}: {error}"[:500]))
        raise
    for stop in walked.stops:
        bus.emit(Event("note", stop.sentence + (" It began again." if stop.restarted else ""), stage=_STAGE))
    if not written.n_frames:
        raise StageFailed(
            f"{folder}: no frame was kept. {walked.stops[0].sentence} Try a shorter timestep_fs, a lower temperature,"
            " or other limits of the guard, in another folder."
        )
    summary = summarise(replicas, plan.settings, folder / "log.csv", walked.stops, written.wall_s)
    summary |= {"model": potential.name, "versions": provenance.versions(), "hardware": provenance.hardware()}
    write_json(folder / SUMMARY, summary)
    shutil.rmtree(folder / _WALK)
    bus.emit(Event("stage", "finished", stage=_STAGE, data={"wall_s": written.wall_s}))
    return summary


def _pace() -> Callable[[int, int], str]:
    """Return a function that tells speed and time left from replica-steps done and all of them."""
    began: list[tuple[float, int]] = []

    def told(done: int, total: int) -> str:
        now_s = time.monotonic()
        if not began:
            began.append((now_s, done))
        seconds, steps = now_s - began[0][0], done - began[0][1]
        if not steps or seconds <= 0:
            return ""
        return f", {steps / seconds:.4g} steps/s, {duration((total - done) * seconds / steps)} left"

    return told


def _chosen(frames: Sequence[Atoms], index: str, path: Path) -> list[Atoms]:
    try:
        wanted = string2index(index)
        chosen = frames[wanted] if isinstance(wanted, int | slice) else None
    except (ValueError, IndexError):
        chosen = None
    found = [chosen] if isinstance(chosen, Atoms) else list(chosen or [])
    if not found:
        raise DataError(f"{path}@{index}: names none of its {len(frames)} structures; give a number or a slice a:b:c.")
    return found


def _identity(model: str | Mapping[str, Any]) -> Any:
    """Return what tells one model from another: hashes of its files, or the calculator entry."""
    if isinstance(model, Mapping):
        return {"entry": dict(model)}
    path = Path(model)
    if path.is_dir():
        return {file.name: provenance.sha256(file) for file in sorted(model_folder(path).glob("student.*"))}
    return {"file": provenance.sha256(path)} if path.is_file() else {"entry": model}


def _digest(starts: Sequence[Atoms]) -> str:
    digest = hashlib.sha256()
    for number, start in enumerate(starts):
        digest.update(f"{start_name(start, number)}/{start.pbc.tolist()}/{fixed_atoms(start)}".encode())
        digest.update(content_of(start))
    return digest.hexdigest()


def _refuse_other(plan: Plan, folder: Path) -> None:
    if not any(not lock.is_ours(path.name) and path.name != PARAMETERS + disk.PART for path in folder.iterdir()):
        return
    path = folder / PARAMETERS
    if not path.is_file():
        raise WorkspaceError(f"{folder}: is not empty and holds no {PARAMETERS}; name another folder with --out.")
    there, here = flatten(_read(path)), flatten(json.loads(json.dumps(plan.parameters)))
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            raise WorkspaceError(
                f"{folder}: holds other MD: {key} is {there.get(key)!r} there and {here.get(key)!r} here;"
                " name another folder with --out."
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WorkspaceError(f"{path}: is corrupt; delete its folder, or name another with --out.")
    return found
