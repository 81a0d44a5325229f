"""The from-scratch baseline in a second process, while the loop is at work on another core.

It needs nothing of the loop but the prepared data, and small graphs gain more from a second process than
from a second thread. Seeds derive from a stage's name, so the weights are those of a run without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from ipip_ext.baselines import SCRATCH
from ipip_ext.recipe.recipe import Recipe

_POLL_S = 0.2


class Background:
    """Starts the second process once data are prepared; makes the stage that it computes wait for it."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def before(self, stage: str) -> None:
        """Do what is due before `stage` begins in the first process."""
        if stage == "explore" and not (self.folder / SCRATCH).exists():
            command = [sys.executable, "-m", "ipip_ext.second_process"]
            command += [str(self.folder), str(self.home), str(os.getpid())]
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        elif stage == SCRATCH and self.process is not None:
            # should it have failed, the first process goes on from its checkpoint and says why
            while self.process.poll() is None:
                time.sleep(_POLL_S)

    def stop(self) -> None:
        """End the second process if it still runs; what it has trained is kept."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def is_worthwhile(recipe: Recipe) -> bool:
    """Return whether the second process has a core to itself and something to do."""
    return (
        _room(recipe) > 0
        and recipe.label.reference is None  # else its training set is known only at the end
        and any(baseline.kind == "scratch" for baseline in recipe.baselines)
    )


def spare_processes(recipe: Recipe) -> int:
    """Return how many processes a stage may start that have a core to themselves."""
    return _room(recipe) - is_worthwhile(recipe)


def _room(recipe: Recipe) -> int:
    """Return how many processes of as many threads the machine has room for beside this one."""
    if not recipe.parallel or recipe.device != "cpu" or recipe.threads is None:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, cores // recipe.threads - 1)
