"""Progress for those who call from Python: one line, in a terminal as in a notebook."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from ipip_ext.run.console import Console
from ipip_ext.run.events import Event, Sink
from ipip_ext.run.printable import printable

_FORM = "{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}"


@contextlib.contextmanager
def shown(progress: bool | Sink, title: str) -> Iterator[Sink | None]:
    """Yield the sink that shows progress, None for none.

    progress: True for one line that is drawn over, or, where nothing can be drawn over, plain lines now and then;
    False for silence; a function to be given every event instead.
    """
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    elif sys.stderr.isatty() or in_notebook():
        bar = Bar(title)
        try:
            yield bar
        finally:
            bar.close()
    else:
        yield Console()


class Bar:
    """A sink: one bar in one line, of the stage at work. It goes when it is closed, unless a stage has begun."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: Any = None
        self._stage: str | None = None

    def __call__(self, event: Event) -> None:
        """Draw what has changed; the bar appears with the first work that has something to tell."""
        if event.kind == "stage" and event.name == "started":
            self._begin(event.stage).leave = True
        elif event.kind == "progress":
            bar = self._bar if event.stage == self._stage else self._begin(event.stage)
            bar.set_postfix_str(printable(event.data.get("text", "")), refresh=False)
            bar.update(float(event.value or 0.0) - bar.n)
        elif event.kind == "run" and event.name == "finished" and self._bar is not None:
            self._bar.set_description_str(f"{self.title}: finished", refresh=False)
            self._bar.set_postfix_str("", refresh=False)
            self._bar.update(1.0 - self._bar.n)

    def close(self) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = self._stage = None

    def _begin(self, stage: str) -> Any:
        said, self._stage = printable(f"{self.title}: {stage}"), stage
        if self._bar is None:
            self._bar = _tqdm()(total=1.0, desc=said, bar_format=_FORM, miniters=0, leave=False)
        else:
            self._bar.reset(total=1.0)
            self._bar.set_postfix_str("", refresh=False)
            self._bar.set_description_str(said)
        return self._bar


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, where a line can be drawn over."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", {})


def _tqdm() -> Any:
    """Return tqdm's own choice: widgets in a notebook that has ipywidgets, else text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for ipywidgets
        from tqdm.auto import tqdm
    return tqdm
