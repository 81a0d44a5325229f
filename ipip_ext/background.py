"""The from-scratch baseline in a second process, while the loop is at work on another core.

It needs nothing of the loop but the prepared data, and small graphs gain more from a second process than
from a second thread. Seeds derive from a stage's name, so the weights are those of a run without it.
"""

from __future__ import annotations

from pathlib import Path

from ipip_ext.baselines import SCRATCH
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import device
from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.processes import SideProcess

_MODULE = "ipip_ext.second_process"


class Background:
    """Starts the second process once data are prepared; makes the stage that it computes wait for it."""

    def __init__(self, folder: Path, home: Path, bus: EventBus) -> None:
        self.folder = folder
        self.home = home
        self.bus = bus
        self.process: SideProcess | None = None

    def before(self, stage: str) -> None:
        """Do what is due before `stage` begins in the first process."""
        if stage == "explore" and not self._is_done():
            self.process = SideProcess(_MODULE, self.folder, self.home)
        elif stage == SCRATCH:
            self._wait()
        self._look_after_it()

    def stop(self) -> None:
        """End the second process if it still runs; what it has trained is kept."""
        if self.process is not None:
            self.process.stop()

    def _wait(self) -> None:
        """Wait for the second process, and say so; how far it is, is said as it tells it."""
        process, share = self.process, 0.0
        if process is None or process.poll() is not None:
            return
        text = f"waiting for process {process.pid}, which trains it"
        self.bus.emit(Event("note", text, stage=SCRATCH))

        def progress() -> None:
            nonlocal share, text
            for said in process.heard():
                share, text = said.get("share", share), said.get("text", text)
            self.bus.emit(Event("progress", SCRATCH, share, SCRATCH, data={"text": text}))

        process.wait(progress)

    def _look_after_it(self) -> None:
        """Say once that it has ended before its work was done: the first process goes on from its checkpoint."""
        if self.process is None or self.process.poll() is None:
            return
        if not self._is_done():
            words = f"process {self.process.pid}, which was to train it, {self.process.fate}; this one will"
            self.bus.emit(Event("note", words, stage=SCRATCH))
        self.process = None

    def _is_done(self) -> bool:
        return (self.folder / SCRATCH).exists()


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
    return device.room_beside(recipe.device, recipe.threads) if recipe.parallel else 0
