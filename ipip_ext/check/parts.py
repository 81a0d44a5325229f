"""Whether errors by element, temperature and start are what stored predictions give, frame by frame in their order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from ipip_ext.data.tables import read_csv
from ipip_ext.errors import StageFailed
from ipip_ext.measure.breakdown import Examined, take_apart

_RELATIVE = 1e-6
"""The file holds all digits of what the same predictions give again."""

_ERRORS = ("force_mae_meV_per_A", "force_rmse_meV_per_A", "energy_mae_meV_per_atom")


def problem_of(
    name: str, breakdown: Path, evaluated: tuple[Path, Path], test: Sequence[Atoms], asked: Mapping[str, Any]
) -> str:
    """Return in which parts of the test frames a model's errors are others than `breakdown` says, "" if in none.

    evaluated: per_frame and forces of its evaluation. asked: what the report was asked, as its record has it.
    """
    start_key = "start" if asked["ood"] is None else asked["ood"]["key"]
    exam = Examined(test, asked["split_keys"], start_key, asked["seed"])
    try:
        found = take_apart(exam, *evaluated, {"test": range(len(test))}).rows
    except StageFailed as error:
        return str(error)
    said = {
        (row["by"], row["value"]): row for row in read_csv(breakdown) if (row["model"], row["split"]) == (name, "test")
    }
    return "; ".join(problem for row in found for problem in _differing(row, said, breakdown.name))


def _differing(
    found: Mapping[str, Any], said: Mapping[tuple[str, str], Mapping[str, str]], file: str
) -> Iterator[str]:  # fmt: skip
    by, value = str(found["by"]), str(found["value"])
    row = said.get((by, value))
    if row is None:
        yield f"{by} {value} is not in {file}"
        return
    for key in _ERRORS:
        if (told := row.get(key)) and not math.isclose(float(told), found[key], rel_tol=_RELATIVE, abs_tol=_RELATIVE):
            yield f"{by} {value} {key} is {float(told):g} in {file} and {found[key]:g} now"
