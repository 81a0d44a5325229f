"""A kill without a second process: from some moment on, nothing that a run does happens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ipip_ext.run import lock, signals
from ipip_ext.run.events import Event


class Killed(BaseException):
    """What a kill would be."""


@dataclass
class Death:
    """left: changes of names of files until it comes. is_dead: whether it has come. event: the one by which it came."""

    left: int
    is_dead: bool = False
    event: Event | None = None

    def come(self, event: Event | None = None) -> None:
        """Kill."""
        if not self.is_dead:
            self.is_dead, self.event = True, event
        raise Killed


@contextlib.contextmanager
def killed(
    monkeypatch: pytest.MonkeyPatch, *, at: tuple[str, str] | None = None, after: int = 10**9
) -> Iterator[Death]:  # fmt: skip
    """Kill what runs in a with block; what it does on the way out does not happen either.

    at: the event by which it dies, its name and stage. after: or how many changes of names of files it makes before.
    The lock alone is given back, as the next process finds that its holder is gone.
    """
    death = Death(after)

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(path: Any, *args: Any, **options: Any) -> Any:
            if not lock.is_ours(Path(path).name):
                if death.is_dead or death.left == 0:
                    death.come()
                death.left -= 1
            return real(path, *args, **options)

        return change

    def heard(event: Event) -> None:
        if death.is_dead or (event.name, event.stage) == at:
            death.come(event)

    with monkeypatch.context() as patched:
        patched.setattr(signals, "at_safe_points", heard)
        for name in ("replace", "unlink", "rmdir"):
            patched.setattr(os, name, counted(getattr(os, name)))
        with pytest.raises(Killed):
            yield death
