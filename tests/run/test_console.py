"""Bars on a terminal, plain lines elsewhere, everything in the log."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

CODE = """
from ipip_ext.run.console import Console
from ipip_ext.run.events import Event
console = Console()
console(Event("stage", "started", stage="iter-00/pretrain"))
for i in range(4):
    console(Event("progress", "p", i / 4, "iter-00/pretrain", data={"text": f"epoch {i}/4"}))
    import time; time.sleep(0.15)
console(Event("stage", "finished", stage="iter-00/pretrain", data={"wall_s": 3.2}))
"""


def on_a_terminal(*command: str) -> str:
    process, terminal = pty.fork()
    if process == 0:
        os.execv(command[0], command)  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
    shown = b""
    while True:
        try:
            read = os.read(terminal, 4096)
        except OSError:  # the other side is gone
            break
        if not read:
            break
        shown += read
    os.waitpid(process, 0)
    return shown.decode()


def test_a_terminal_gets_a_bar_with_an_eta():
    shown = on_a_terminal(sys.executable, "-c", CODE)
    assert "iter-00/pretrain  50% |" in shown
    assert "epoch 2/4" in shown
    assert "<00:0" in shown  # time left
    assert "iter-00/pretrain finished in 3 s" in shown


def test_a_pipe_gets_plain_lines():
    shown = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert shown.stdout == ""
    assert shown.stderr.splitlines() == ["iter-00/pretrain started", "iter-00/pretrain finished in 3 s"]
