"""What comes of another user."""

from __future__ import annotations

import os
from pathlib import Path

PLANTED = (
    "abc", "argparse", "ast", "base64", "bisect", "calendar", "contextlib", "copy", "csv", "dataclasses", "decimal",
    "functools", "glob", "hashlib", "heapq", "inspect", "json", "logging", "platform", "queue", "random", "runpy",
    "shutil", "socket", "string", "tempfile", "threading", "typing", "numpy", "torch", "yaml", "cuequivariance",
    "sitecustomize",
)  # fmt: skip
"""Modules that Python or what we stand on imports, or would if it were there."""


def plant(folder: Path) -> Path:
    """Write modules of standard names into `folder`; return the file that is there once one of them has been run."""
    mark = folder / "ran.txt"
    for name in PLANTED:
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write(__file__ + chr(10))\n")
    return mark


class Evil:
    """What a stranger's model file may hold."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return Path.touch, (self.mark,)


def of_another(monkeypatch) -> None:
    """Make every file that of another user."""
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
