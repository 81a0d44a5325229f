"""Other processes: one that holds a lock, and those that a run has started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys, time
from pathlib import Path
from ipip_ext.run import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float = 600.0) -> subprocess.Popen[str]:
    """Return another process, which holds the lock of `folder` by now."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def children(pid: int, module: str = "ipip_ext.run.pool") -> list[int]:
    """Return the ids of the processes of `module` that process `pid` has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if module.encode() in words and str(pid).encode() in words:  # a side process is told whose it is
            found.append(int(entry.parent.name))
    return sorted(found)


def at_work_in(folder: Path) -> list[int]:
    """Return the ids of all processes, but this one, whose working folder is `folder`."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink() == folder and link.parent.name != str(os.getpid()):
                found.append(int(link.parent.name))
        except OSError:
            continue
    return found
