"""What a user's walk is: its structures, its settings, and what decides its results."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from pydantic import ValidationError

from ipip_ext import md
from ipip_ext.data import frames as fr
from ipip_ext.errors import DataError, RecipeError
from ipip_ext.md.replicas import content_of, fixed_atoms, start_name
from ipip_ext.recipe.schema import explain
from ipip_ext.recipe.walk import Explore
from ipip_ext.run import picked, provenance
from ipip_ext.teachers.load import model_folder


@dataclass(frozen=True)
class Plan:
    """MD to be done. parameters: what decides its results, as JSON data; contents count, not paths.

    on_unknown: ignore | warn | stop, what to do outside of what the model has learnt.
    """

    starts: list[Atoms]
    settings: Explore
    seed: int
    parameters: dict[str, Any]
    on_unknown: str = "warn"


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
    path, _ = picked.split(Path(structure))
    if not path.exists() and "@" not in path.name:
        raise DataError(f"{path}: no such file; check the path of the structure.")
    return repeated(fr.read_structures(Path(structure)), supercell, str(path))


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


def plan(
    model: str | Mapping[str, Any], starts: list[Atoms], settings: Explore, seed: int, on_unknown: str = "warn"
) -> Plan:  # fmt: skip
    """Return what is to be done. model: a folder, a file or a calculator entry. on_unknown: see `Plan`.

    Raises DataError for starts that can't move so, ModelFileError without a model.
    """
    md.check_starts(starts, settings.ensemble)
    stops = on_unknown == "stop"  # else home has no say in where the walk goes
    parameters = {
        "model": _identity(model, ("student.*", "home.*") if stops else ("student.*",)),
        "structure_sha256": _digest(starts),
        "seed": seed,
        **settings.model_dump(mode="json", exclude={"starts", "max_trajectory_GB"}),
        **({"on_unknown": on_unknown} if stops else {}),
    }
    return Plan(starts, settings, seed, parameters, on_unknown)


def _identity(model: str | Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return what tells one model from another: hashes of its files of these `names`, or the calculator entry."""
    if isinstance(model, Mapping):
        return {"entry": dict(model)}
    path = Path(model)
    if path.is_dir():
        files = sorted(file for name in names for file in model_folder(path).glob(name))
        return {file.name: provenance.sha256(file) for file in files}
    return {"file": provenance.sha256(path)} if path.is_file() else {"entry": model}


def _digest(starts: Sequence[Atoms]) -> str:
    digest = hashlib.sha256()
    for number, start in enumerate(starts):
        digest.update(f"{start_name(start, number)}/{start.pbc.tolist()}/{fixed_atoms(start)}".encode())
        digest.update(content_of(start))
    return digest.hexdigest()
