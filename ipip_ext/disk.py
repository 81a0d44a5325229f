"""Telling a full or read-only disk from everything else that can go wrong."""

from __future__ import annotations

import errno
import os

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
_WORDS = (*(os.strerror(number) for number in _NUMBERS), "PytorchStreamWriter failed", "unexpected pos")
"""The system's words, and torch's where it keeps those to itself."""


def trouble(error: BaseException) -> str:
    """Return why the disk can't be written, "" if `error` is about something else.

    torch and safetensors raise errors of their own for it, which only their text tells from others.
    """
    if isinstance(error, OSError):
        return str(error.strerror) if error.errno in _NUMBERS else ""
    if type(error).__name__ in ("RuntimeError", "SafetensorError"):
        return next((word for word in _WORDS if word in str(error)), "")
    return ""
