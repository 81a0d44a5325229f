"""How work that is no stage says how far it is: what `check` does, and what a run does before it has a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ipip_ext.run.console import Console
from ipip_ext.run.events import Event

Tell = Callable[[float, str], None]
"""Is told how far something is, 0..1, and what is going on."""


def quiet(share: float, text: str) -> None:
    """Tell nobody."""


@contextlib.contextmanager
def on_terminal(name: str) -> Iterator[Tell]:
    """Tell whoever sits at the terminal, as a run does of its stages; nothing is left there in the end."""
    console = Console()

    def tell(share: float, text: str) -> None:
        console(Event("progress", name, share, name, data={"text": text}))

    try:
        yield tell
    finally:
        console.close()
