"""Progress for Python users: one line where a line can be drawn over, plain lines elsewhere, silence if wanted."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from ipip_ext.run import bar, telling
from ipip_ext.run.console import Console
from ipip_ext.run.events import Event

EVENTS = [
    Event("run", "started"),
    Event("stage", "reused", stage="prepare"),
    *(
        event
        for stage in ("explore", "iter-00/pretrain")
        for event in (
            Event("stage", "started", stage=stage),
            Event("note", "a word", stage=stage),
            Event("progress", stage, 0.5, stage, data={"text": "half way"}),
            Event("stage", "finished", stage=stage, data={"wall_s": 1.0}),
        )
    ),
    Event("run", "finished"),
]


class Screen(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def shown(monkeypatch, is_terminal: bool, events: list[Event] = EVENTS) -> str:
    screen = Screen(is_terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    with bar.shown(True, "tiny") as show:
        for event in events:
            show(event)
    return screen.getvalue()


def last_drawn(said: str) -> str:
    return said.rstrip("\n").rpartition("\r")[2]


def test_a_terminal_has_one_line(monkeypatch):
    said = shown(monkeypatch, is_terminal=True)
    assert said.count("\n") == 1
    assert said.endswith("\n")
    for words in ("tiny: explore", "tiny: iter-00/pretrain", "half way"):
        assert words in said
    assert last_drawn(said).startswith("tiny: finished 100% |")


def test_a_notebook_has_one_line(monkeypatch):
    """Its streams are no terminals; without ipywidgets tqdm draws with text there too."""
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    said = shown(monkeypatch, is_terminal=False)
    assert said.count("\n") == 1
    assert last_drawn(said).startswith("tiny: finished 100% |")


def test_what_stops_half_way_leaves_its_line(monkeypatch):
    stopped = [*EVENTS[:5], Event("run", "stopped", "KeyboardInterrupt")]
    assert last_drawn(shown(monkeypatch, is_terminal=True, events=stopped)).startswith("tiny: explore  50% |")


def test_what_comes_before_a_run_leaves_no_line(monkeypatch):
    """`check` tells how far it is; when it is done, its answer is what is left to read."""
    screen = Screen(is_terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)
    with bar.shown(True, "tiny") as show, telling.to(show), telling.told("check") as tell:
        tell(0.25, "comparing frames")
    assert "tiny: check " in screen.getvalue()
    assert last_drawn(screen.getvalue()) == ""
    assert screen.getvalue().count("\n") == 0


def test_nobody_is_told_in_silence(monkeypatch, capfd):
    with bar.shown(False, "tiny") as show, telling.to(show), telling.told("check") as tell:
        tell(0.25, "comparing frames")
    assert capfd.readouterr() == ("", "")


def test_where_all_is_there_nothing_is_drawn(monkeypatch):
    assert shown(monkeypatch, is_terminal=True, events=[*EVENTS[:2], Event("run", "finished")]) == ""


@pytest.mark.parametrize("shell", [None, SimpleNamespace(get_ipython=lambda: None)])
def test_elsewhere_lines_are_plain(monkeypatch, shell):
    monkeypatch.setitem(sys.modules, "IPython", shell)
    said = shown(monkeypatch, is_terminal=False)
    assert "\r" not in said
    assert "iter-00/pretrain finished in 1 s" in said.splitlines()


def test_silence_and_functions():
    with bar.shown(False, "tiny") as show:
        assert show is None
    seen: list[Event] = []
    with bar.shown(seen.append, "tiny") as show:
        show(EVENTS[0])
    console = Console()
    with bar.shown(console, "tiny") as show:
        assert show is console
    assert seen == EVENTS[:1]
