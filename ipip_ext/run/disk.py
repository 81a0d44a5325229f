"""Files that are written whole or not at all, links that lead out of a folder, and what is wrong with a disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

PART = ".part"
"""What the name of a file ends with while it is written."""

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
_WORDS = (*(os.strerror(number) for number in _NUMBERS), "PytorchStreamWriter failed", "unexpected pos")
"""The system's words, and torch's where it keeps those to itself."""


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: under another name first, synced and renamed. Raises OSError."""
    part = path.with_name(path.name + PART)
    with part.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_inside(path: Path, folder: Path) -> bool:
    """Return whether `path` is in `folder`, wherever links lead."""
    return path.resolve().is_relative_to(folder.resolve())


def trouble(error: BaseException) -> str:
    """Return why the disk can't be written, "" if `error` is about something else.

    torch and safetensors raise errors of their own for it, which only their text tells from others.
    """
    if isinstance(error, OSError):
        return str(error.strerror) if error.errno in _NUMBERS else ""
    if type(error).__name__ in ("RuntimeError", "SafetensorError"):
        return next((word for word in _WORDS if word in str(error)), "")
    return ""
