"""Whether a file of extended XYZ is whole, before ASE reads it.

ASE takes what a header says at its word: a number of atoms or columns with some digits too many costs it hours or all
memory, and it ends without a word at an empty line, whatever stands behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase.io.extxyz import key_val_str_to_dict
from ase.io.formats import open_with_compression

from ipip_ext.errors import DataError


def check(path: Path) -> None:
    """Raise DataError, with the frame, for headers that the file doesn't bear out; other errors are left to ASE."""
    with open_with_compression(str(path), "rt") as file:
        number = 0
        while header := file.readline():
            if header.lstrip().startswith("VEC") and number:  # a cell vector, written as an atom
                continue
            if not header.strip():
                if any(line.strip() for line in file):
                    raise DataError(f"{path}: holds an empty line before frame {number}; take it out.")
                return
            _check_frame(file, header, f"{path}: frame {number}")
            number += 1


def _check_frame(file: TextIO, header: str, where: str) -> None:
    try:
        n_atoms = int(header)
    except ValueError:
        n_atoms = -1
    if n_atoms < 0:
        raise DataError(
            f"{where}: begins with {header.strip()[:30]!r} instead of its number of atoms; save it again as extended"
            " XYZ."
        )
    comment = _keys(file.readline())
    pbc = comment.get("pbc", True)
    if np.asarray(pbc).dtype.kind not in "bif":  # any word would count as true
        raise DataError(f"{where}: pbc must be three of T and F, not {pbc}.")
    n_columns = _columns(comment)
    for index in range(n_atoms):
        line = file.readline()
        if not line:
            raise DataError(f"{where}: ends after {index} of {n_atoms} atoms; save it again as extended XYZ.")
        if index == 0 and n_columns > len(line.split()):
            raise DataError(
                f"{where}: has {len(line.split())} columns where Properties asks for {n_columns}; save it again as"
                " extended XYZ."
            )


def _keys(comment: str) -> dict[str, Any]:
    try:
        return dict(key_val_str_to_dict(comment))
    except Exception:  # noqa: BLE001 - ASE will say what it makes of it
        return {}


def _columns(comment: Mapping[str, Any]) -> int:
    try:
        return sum(max(0, int(times)) for times in str(comment["Properties"]).split(":")[2::3])
    except (KeyError, ValueError):
        return 0
