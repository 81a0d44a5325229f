"""What strangers write into their files is seen on a terminal and in a log, and commands neither."""

from __future__ import annotations

import pytest

from ipip_ext.run.console import Console, LogFile
from ipip_ext.run.events import Event
from ipip_ext.run.printable import one_line, printable

RED = "\x1b[31mred"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (RED, r"\x1b[31mred"),
        ("a\rb\x07\x9b", r"a\rb\x07\x9b"),
        ("abc\u202ecba", r"abc\u202ecba"),
        ("half \ud800", r"half \ud800"),
        ("β-Ni, 5 Å − Grüße 你好", "β-Ni, 5 Å − Grüße 你好"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert printable(text) == shown
    assert printable(text).encode()


def test_a_line_stays_one():
    assert one_line(f"two\nlines of {RED}") == r"two lines of \x1b[31mred"


def test_terminal_and_log_show_them(tmp_path, capsys):
    events = [
        Event("note", f"start {RED} stopped", stage="explore"),
        Event("row", RED, data={"metrics": {"a": 1.0}}),
        Event("progress", "x", 0.5, "explore", data={"text": RED}),
    ]
    log, console = LogFile(tmp_path / "log.txt"), Console()
    console.last_line = log.last_progress = -1e9
    for event in events:
        log(event)
        console(event)
    said = capsys.readouterr().err
    for text in (said, (tmp_path / "log.txt").read_text()):
        assert "\x1b" not in text
        assert text.count(r"\x1b[31mred") >= 2
