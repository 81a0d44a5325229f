"""How work that is no stage says how far it is: what `check` does, and what a run does before it has a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from ipip_ext.run.bar import Bar
from ipip_ext.run.console import Console
from ipip_ext.run.events import Event, Sink

Tell = Callable[[float, str], None]
"""Is told how far something is, 0..1, and what is going on."""


def quiet(share: float, text: str) -> None:
    """Tell nobody."""


_watching: ContextVar[Sink | None] = ContextVar("_watching", default=None)
"""Who is told; None: whoever sits at the terminal."""


@contextlib.contextmanager
def to(watching: Sink | None) -> Iterator[None]:
    """Have all that is told in a with block told to `watching`; None: to nobody."""
    before = _watching.set(watching or _nobody)
    try:
        yield
    finally:
        _watching.reset(before)


@contextlib.contextmanager
def told(name: str) -> Iterator[Tell]:
    """Tell who is watching, as a run does of its stages; nothing is left on a terminal in the end."""
    watching = _watching.get() or Console()

    def tell(share: float, text: str) -> None:
        watching(Event("progress", name, share, name, data={"text": text}))

    try:
        yield tell
    finally:
        if isinstance(watching, Console | Bar):
            watching.close()


def _nobody(_event: Event) -> None:
    pass
