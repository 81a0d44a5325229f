"""What comes of another user."""

from __future__ import annotations

import os
from pathlib import Path


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
