"""The far side of `processes.py`, run as a file: `python -P far_side.py PARENT MODULE ARGUMENTS`.

PARENT: id of the process that started this one. MODULE: run as the main one once all is set up.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

_BEAT_S = 1.0


def main() -> None:
    """Make this process one that ends with its parent and shows that it lives; then be MODULE."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    _find_ourselves()
    from ipip_ext.run.signals import end_with

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from the keyboard: the parent's to pass on
    end_with(parent)
    threading.Thread(target=_live, args=(os.dup(1), parent), daemon=True).start()
    del sys.argv[:2]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _find_ourselves() -> None:
    """Import this very package by its file: whatever else is installed, and with its folder on no path."""
    home = Path(__file__).absolute().parents[1]
    spec = importlib.util.spec_from_file_location(
        home.name, home / "__init__.py", submodule_search_locations=[str(home)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[home.name] = package
    spec.loader.exec_module(package)


def _live(words: int, parent: int) -> None:
    """Touch the file of words as long as this process and its parent are there."""
    from ipip_ext.run.signals import end_if_orphaned

    while True:
        with contextlib.suppress(OSError):
            os.utime(words)
        end_if_orphaned(parent)
        time.sleep(_BEAT_S)


if __name__ == "__main__":
    main()
