"""`file@index`: a file, and which of its frames are meant, as ASE's command line has it."""

from __future__ import annotations

import re
from pathlib import Path

from ipip_ext.run import provenance

_INDEX = re.compile(r"-?\d{1,18}|(-?\d{1,18})?(:(-?\d{1,18})?){1,2}")
"""A number or a slice a:b:c, of which each part may be left out."""


def split(path: Path) -> tuple[Path, str | None]:
    """Return the file that a path names, and the index behind it; None where all of the file is meant.

    A file whose own name holds an @ is taken as it is.
    """
    file, _, index = path.name.rpartition("@")
    if not file or not _INDEX.fullmatch(index) or path.exists():
        return path, None
    return path.with_name(file), index


def chosen(index: str, n_frames: int) -> list[int]:
    """Return the places of the frames that an index means among so many, counted from 0; none beyond the last."""
    first, *more = (int(part) if part else None for part in index.split(":"))
    if not more:
        assert first is not None
        return [range(n_frames)[first]] if -n_frames <= first < n_frames else []
    if len(more) == 2 and more[1] == 0:
        return []
    return list(range(n_frames)[slice(first, *more)])


def content(path: Path) -> str:
    """Return what decides the frames that a path names: the hash of its file, and the index behind it.

    Raises OSError for a file that can't be read.
    """
    file, index = split(path)
    return provenance.sha256(file) + ("" if index is None else f"@{index}")
