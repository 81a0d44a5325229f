"""What of a frame's `info` and `arrays` a file of extended XYZ can hold, and the rest of `info` in a form that it can.

ASE writes whatever stands there, but reads some of it back as something else, or not at all: text with line breaks,
words that are empty, unsigned numbers, keys with a colon. So what is no plain word or number is tried before it is
written; what does not come back is quoted, as one word that holds JSON, or left out.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.io.extxyz import read_xyz, write_xyz
from ase.spacegroup.spacegroup import Spacegroup
from numpy.typing import NDArray

QUOTED = "quoted_info"
"""info key of a file: what it holds in quotes, as a list of keys and values."""

_HEADER = frozenset({"Lattice", "Properties", "pbc", "uid", QUOTED})
_COLUMNS = ("symbols", "species", "numbers", "Z", "charge", "move_mask", *(f"positions{i}" for i in range(3)),
            *(f"pos{i}" for i in range(3)))  # fmt: skip
"""Columns that a file has by itself, or that ASE reads as others."""

_KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_COLUMN = re.compile(r"\w[\w-]*")
_WORD = re.compile(r"[A-Za-z][\w.:/+-]*", re.ASCII)
_NOT_TEXT = frozenset({"t", "f", "true", "false", "nan", "inf", "infinity"})
_MOST_INT = 2**31 - 1
"""ASE reads columns of whole numbers into 32 bits."""


def storable(atoms: Atoms) -> Atoms:
    """Return a copy, without calculator, that is written and read back as it is; `restored` undoes the quoting."""
    frame = atoms.copy()
    info, quoted = {}, []
    for key, value in atoms.info.items():
        if _is_plain(key, value):
            info[key] = value
        elif _is_json(key) and _is_json(value):
            quoted.append([key, value])
    if quoted:
        info[QUOTED] = quote(json.dumps(quoted), safe="")
    frame.info = info
    taken = set(_COLUMNS)
    for name in [name for name in frame.arrays if name not in ("numbers", "positions")]:
        column = _column(name, frame.arrays.pop(name))
        fields = set() if column is None else _fields(name, column)
        if column is not None and not fields & taken:
            frame.arrays[name] = column
            taken |= fields
    return frame


def restored(atoms: Atoms) -> Atoms:
    """Return the same frame with what its file holds in quotes where it was."""
    text = atoms.info.get(QUOTED)
    if not isinstance(text, str):
        return atoms
    try:
        found = dict(json.loads(unquote(text)))
    except (ValueError, TypeError):  # not of our making
        return atoms
    del atoms.info[QUOTED]
    atoms.info.update(found)
    return atoms


def _is_plain(key: Any, value: Any) -> bool:
    """Return whether ASE's own form of an entry of `info` says the same when it is read."""
    if not isinstance(key, str) or key in _HEADER:
        return False
    usual = _KEY.fullmatch(key) and key not in all_properties
    if usual and isinstance(value, int | np.integer):
        return abs(int(value)) < 2**63
    if usual and isinstance(value, float | np.floating | np.bool_):
        return True
    if not isinstance(value, str):
        return _survives(key, value)
    if usual and _WORD.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return True
    return _text_survives(key, value)


@lru_cache(maxsize=4096)
def _text_survives(key: str, value: str) -> bool:
    return value.isprintable() and _survives(key, value)


def _survives(key: str, value: Any) -> bool:
    if not key.isprintable():
        return False
    text, probe = io.StringIO(), Atoms("H", info={key: value})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what ASE would leave out
            write_xyz(text, [probe])
            lines = text.getvalue().split("\n")
            if len(lines) != 4 or not lines[1].isprintable():  # a word with a line break in it
                return False
            (read,) = read_xyz(io.StringIO(text.getvalue()))
    except Exception:  # noqa: BLE001 - ASE raises what its parts raise
        return False
    if key in read.info:
        return len(read.info) == 1 and _says_the_same(read.info[key], value)
    return read.calc is not None and key in read.calc.results  # a plain label, which ASE puts there


def _says_the_same(read: Any, value: Any) -> bool:
    if isinstance(value, str):
        return str(read) == value
    if isinstance(value, Spacegroup):
        return str(read) == str(value.symbol)
    if isinstance(value, Mapping):
        return bool(read == value)
    one, other = np.asarray(read), np.asarray(value)
    if one.dtype.kind not in "biuf" or other.dtype.kind not in "biuf":
        return bool(isinstance(value, list) and isinstance(read, list) and read == value)
    alike = one.size > 0 and (one.shape == other.shape or one.size == other.size == 1)
    same_kind = (one.dtype.kind == "b") == (other.dtype.kind == "b")
    return bool(alike and same_kind and np.array_equal(one.ravel(), other.ravel(), equal_nan=True))


def _is_json(value: Any) -> bool:
    """Return whether JSON holds a value as it is."""
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(inner) for key, inner in value.items())
    return value is None or type(value) in (str, bool, int, float)


def _column(name: Any, array: NDArray[Any]) -> NDArray[Any] | None:
    """Return an array as a file can hold it, None for one that it can't."""
    if not isinstance(name, str) or not _COLUMN.fullmatch(name) or name in all_properties:
        return None
    if array.ndim not in (1, 2) or array.shape[-1] == 0:
        return None
    kind = array.dtype.kind
    if kind in "iu":
        if array.max() > _MOST_INT or array.min() < -_MOST_INT:
            return None
        return array.astype(np.int64) if kind == "u" else array
    if kind in "OU":
        return array if all(map(_is_word, array.ravel())) else None
    return array if kind in "fb" else None


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and value.split() == [value]


def _fields(name: str, array: NDArray[Any]) -> set[str]:
    """Return by which names ASE keeps the columns of an array."""
    n_columns = 1 if array.ndim == 1 else array.shape[1]
    return {name} if n_columns == 1 else {name, *(f"{name}{c}" for c in range(n_columns))}
