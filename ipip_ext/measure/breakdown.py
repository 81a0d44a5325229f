"""Errors of a finished evaluation, taken apart: by split, element, temperature and start, with intervals.

All of it follows from what `evaluate` wrote, so no model is asked again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data.metrics import Residuals, intervals
from ipip_ext.data.tables import read_csv
from ipip_ext.errors import StageFailed
from ipip_ext.potentials.base import Array

TEMPERATURE = "temperature_K"
_MOST_TOLD = 24
"""Values of a key that metrics tell apart, each by a name of its own; the file holds any number."""


@dataclass(frozen=True)
class Examined:
    """What errors are taken apart by.

    frames: of the test file, in its order. split_keys: info keys that make a trajectory, whose frames are drawn
    together; () draws frames. start_key: info key of where a frame came from.
    """

    frames: Sequence[Atoms]
    split_keys: Sequence[str]
    start_key: str
    seed: int

    @property
    def unit(self) -> str:
        """What a bootstrap draws, in words."""
        keys = self._grouping()
        return f"groups of equal {', '.join(keys)}" if keys else "frames"

    def units(self, rows: Sequence[int], sums: Array) -> Array:
        """Return what a bootstrap draws from, (n_units, k): sums of the frames `rows`, (n, k), added up by unit."""
        keys = self._grouping()
        if not keys:
            return sums
        names = ["/".join(_said(self.frames[i], key) for key in keys) for i in rows]
        units, unit_of = np.unique(names, return_inverse=True)
        found = np.zeros((len(units), sums.shape[1]))
        np.add.at(found, unit_of, sums)
        return found

    def _grouping(self) -> list[str]:
        return [key for key in self.split_keys if any(key in frame.info for frame in self.frames)]


@dataclass(frozen=True)
class Scores:
    """Errors of a model. splits: by split, for the table and MLflow. n_frames, n_units: by split. rows: for a file."""

    splits: dict[str, dict[str, float]]
    n_frames: dict[str, int]
    n_units: dict[str, int]
    rows: list[dict[str, Any]]


def take_apart(exam: Examined, per_frame: Path, forces: Path, splits: Mapping[str, Sequence[int]]) -> Scores:
    """Return the errors of a model on each split and on parts of it.

    per_frame, forces: what its evaluation wrote. splits: which frames of the exam each holds, by their places.
    Of the first split parts by temperature and start are told too, of all splits those by element.
    Raises StageFailed if the files aren't of frames of this exam.
    """
    where, residuals = read(exam.frames, per_frame, forces)
    found = Scores({}, {}, {}, [])
    for split, picked in splits.items():
        wanted = set(picked)
        rows = [row for row, i in enumerate(where) if i in wanted]
        if len(rows) != len(picked):
            raise StageFailed(f"{per_frame}: holds {len(rows)} of the {len(picked)} frames of {split}; evaluate anew.")
        of = [where[row] for row in rows]
        errors, parts, n_units = _on(exam, of, residuals.frames(rows))
        found.splits[split] = errors | _told(parts[1:], is_first=not found.splits)
        found.n_frames[split], found.n_units[split] = len(rows), n_units
        found.rows.extend({"split": split, **row} for row in parts)
    return found


def _on(exam: Examined, of: Sequence[int], some: Residuals) -> tuple[dict[str, float], list[dict[str, Any]], int]:
    """Return errors with intervals, a row for all and for each part of the frames `of`, and what was drawn from."""
    units = exam.units(of, some.sums())
    errors = some.errors() | intervals(units, exam.seed)
    whole = {"by": "all", "value": "", "n_frames": len(of), "n_atoms": int(some.n_atoms.sum()), **errors}
    return errors, [whole, *_parts(exam, of, some)], len(units)


def read(frames: Sequence[Atoms], per_frame: Path, forces: Path) -> tuple[list[int], Residuals]:
    """Return which of `frames` an evaluation holds and its residuals. Raises StageFailed if it holds others."""
    table = read_csv(per_frame)
    where = places(frames, per_frame, table)
    n_atoms = np.array([len(frames[i]) for i in where])
    data = dict(np.load(forces))
    if len(data["reference"]) != n_atoms.sum():
        raise _others(per_frame)
    energy = np.array([float(row.get("energy_mae_meV_per_atom") or np.nan) for row in table]) / 1e3
    stress = data.get("stress_error_eV_per_A3")
    return where, Residuals(data["predicted"], data["reference"], n_atoms, energy, stress)


def places(frames: Sequence[Atoms], per_frame: Path, table: Sequence[Mapping[str, str]]) -> list[int]:
    """Return the place among `frames` of each row of `table`, which `per_frame` holds.

    Rows stand in the order of the frames, some of which may be left out by what elements they hold. So a name that a
    file gave to several of them is no trouble. Raises StageFailed for rows of other frames.
    """
    found: list[int] = []
    for row in table:
        ahead = range(found[-1] + 1 if found else 0, len(frames))
        place = next((i for i in ahead if _is_of(row, frames[i])), None)
        if place is None:
            raise _others(per_frame)
        found.append(place)
    return found


def _is_of(row: Mapping[str, str], frame: Atoms) -> bool:
    return row["frame_id"] == str(frame.info[fr.ID]) and row.get("formula") in (None, frame.get_chemical_formula())


def _others(per_frame: Path) -> StageFailed:
    return StageFailed(f"{per_frame}: is not of the frames of this test set; evaluate anew.")


def _parts(exam: Examined, of: Sequence[int], some: Residuals) -> Iterator[dict[str, Any]]:
    """Yield a row for each element, temperature and start of the frames `of`."""
    symbols = np.concatenate([exam.frames[i].get_chemical_symbols() for i in of])
    holder = np.repeat(np.arange(len(of)), some.n_atoms)
    for symbol in sorted(set(symbols)):
        mask = symbols == symbol
        n_frames = len(set(holder[mask]))
        yield {"by": "element", "value": symbol, "n_frames": n_frames, "n_atoms": int(mask.sum()), **some.atoms(mask)}
    for key in dict.fromkeys((TEMPERATURE, exam.start_key, *exam.split_keys)):
        values = [_said(exam.frames[i], key) for i in of]
        if set(values) == {""}:
            continue
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, said in enumerate(values):
            rows_of[said].append(row)
        for value, rows in sorted(rows_of.items(), key=lambda item: _in_order(item[0])):
            part = some.frames(rows)
            n_atoms = int(part.n_atoms.sum())
            yield {"by": key, "value": value, "n_frames": len(rows), "n_atoms": n_atoms, **part.errors()}


def _told(parts: Sequence[Mapping[str, Any]], *, is_first: bool) -> dict[str, float]:
    """Return the force MAE of parts under names of their own."""
    found: dict[str, float] = {}
    for by in dict.fromkeys(part["by"] for part in parts):
        some = [part for part in parts if part["by"] == by and part["value"]]
        if by == "element" or (is_first and len(some) <= _MOST_TOLD):
            known = [part for part in some if "force_mae_meV_per_A" in part]
            found |= {f"force_mae_{_name(by, p['value'])}_meV_per_A": float(p["force_mae_meV_per_A"]) for p in known}
    return found


def _name(by: str, value: str) -> str:
    if by == "element":
        return value
    return f"{value}K" if by == TEMPERATURE else f"{by}_{value}"


def _said(frame: Atoms, key: str) -> str:
    value = frame.info.get(key, "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value
