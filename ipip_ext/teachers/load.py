"""A finished student as an ASE calculator."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator

from ipip_ext.backends import registry
from ipip_ext.backends.committee import CommitteePotential
from ipip_ext.data import frames
from ipip_ext.errors import CalculatorError, ModelFileError, did_you_mean
from ipip_ext.potentials.base import Potential
from ipip_ext.recipe import students, yaml_core
from ipip_ext.teachers import entries, trust


def load_calculator(path: str | Path, device: str = "cpu", *, committee: bool = False) -> Calculator:
    """Return the student of a run folder, or of a model folder, as an ASE calculator.

    committee: the committee around it instead (recipe key `committee.export`): its results hold the spread of
    energy and forces too, see `backends.committee.CommitteeCalculator`.
    Reads student.json, student.safetensors and, where it is, home.safetensors; nothing is unpickled.
    Raises ModelFileError if there is no finished student at `path`.
    """
    folder = model_folder(Path(path))
    if committee:
        return _committee(folder, device).calculator()
    backend = registry.backend(backend_of(folder))
    return backend.calculator(backend.load(folder), device)


def load_potential(path: str | Path, device: str = "cpu") -> Potential:
    """Return the same student as a batched Potential."""
    folder = model_folder(Path(path))
    backend = registry.backend(backend_of(folder))
    return backend.potential(backend.load(folder), device)


def load_structures(path: str | Path) -> list[Atoms]:
    """Return every structure of a file in any format that ASE reads.

    Raises DataError if the file is missing, empty, unreadable, or holds what is no structure.
    """
    return frames.read_structures(Path(path))


def _committee(folder: Path, device: str) -> CommitteePotential:
    calibration = folder / "calibration.json"
    if not (folder / "committee").is_dir():
        raise ModelFileError(f"{folder}: holds no committee; run the recipe with committee.export: true.")
    try:
        worth = float(json.loads(calibration.read_text(encoding="utf-8"))["error_per_spread"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ModelFileError(f"{calibration}: is missing or corrupt; export the model again.") from None
    return CommitteePotential.load(folder / "committee", backend_of(folder), device, worth)


def model_folder(path: Path) -> Path:
    """Return the folder that holds student.json: `path` itself or its `model/`."""
    for folder in (path, path / "model"):
        if (folder / "student.json").is_file():
            return folder
    if not path.exists():
        raise ModelFileError(f"{path}: no such folder; name a run folder, or the folder of a student.json.")
    if (path / "recipe.yaml").is_file():
        raise ModelFileError(f"{path}: has no finished model yet; `ipip-mace status {path}` tells where it stands.")
    raise ModelFileError(f"{path}: holds no student.json; name a run folder, or its model/ folder.")


def backend_of(folder: Path) -> str:
    """Return the name of the backend that wrote `folder`."""
    try:
        name = str(json.loads((folder / "student.json").read_text(encoding="utf-8"))["backend"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ModelFileError(f"{folder / 'student.json'}: is corrupt; export the model again.") from None
    if name not in students.names():
        raise ModelFileError(
            f"{folder / 'student.json'}: its backend {name} is unknown.{did_you_mean(name, students.names())}"
        )
    return name


def load_any(
    model: str | Mapping[str, Any], device: str, *, trusted: bool = False, say: Callable[[str], None] = lambda _: None
) -> Potential:  # fmt: skip
    """Return the Potential that `model` names: a folder, a .model file, or a calculator entry.

    trusted: whether a pickled model may be another user's. say: is told each pickled file and its SHA-256 before it
    is loaded. Raises ModelFileError or CalculatorError.
    """
    if isinstance(model, Mapping):
        return _make(model, device, trusted, say)
    path = Path(model)
    if path.is_dir():
        return load_potential(path, device)
    if path.is_file():
        return _make({"mace": model}, device, trusted, say)
    try:
        entry = yaml_core.read(model)
    except yaml_core.NotYaml:
        entry = model
    if isinstance(entry, dict) or (isinstance(entry, str) and _names_a_calculator(entry)):
        return _make(entry, device, trusted, say)
    raise ModelFileError(
        f"{model}: no such file or folder; name a run folder, a .model file, or a calculator such as chgnet."
    )


def _make(
    entry: str | Mapping[str, Any], device: str, trusted: bool, say: Callable[[str], None]
) -> Potential:  # fmt: skip
    for finding in trust.require_entry(entry, trusted=trusted):
        say(str(finding))
    return entries.make(entry, device=device)


def _names_a_calculator(entry: str) -> bool:
    try:
        entries.parse(entry)
    except CalculatorError:
        return False
    return True
