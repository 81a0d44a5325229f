"""What `background` starts: `python -m ipip_ext.second_process RUN_FOLDER RECIPE_FOLDER PARENT`."""

from __future__ import annotations

import sys
from pathlib import Path

from ipip_ext import loop, runner
from ipip_ext.baselines import train_scratch
from ipip_ext.recipe.baselines import Scratch
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run import layout
from ipip_ext.run.console import LogFile
from ipip_ext.run.events import Event, EventBus, JsonLines
from ipip_ext.run.signals import end_if_orphaned, end_with
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.inputs import Task


def main(folder: Path, home: Path, parent: int) -> None:
    """Train the from-scratch baseline of the run in `folder`, whose data are prepared.

    parent: id of the process that holds the folder's lock; this one writes there only while that one lives.
    """
    end_with(parent)
    recipe = runner.on_this_machine(load_recipe(folder / layout.RECIPE))
    bus = EventBus([_Orphaned(parent), JsonLines(folder / layout.EVENTS), LogFile(folder / layout.LOG)])
    work = Workspace(folder, bus, recipe.seed, recipe.device, home=home)
    data = loop.prepare_data(recipe, work)
    for baseline in recipe.baselines:
        if isinstance(baseline, Scratch):
            train_scratch(recipe, work, baseline, data.e0s_eV, Task(data.train, data.valid))


class _Orphaned:
    """A sink that ends this process when the first one is gone, where the kernel doesn't."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __call__(self, _event: Event) -> None:
        end_if_orphaned(self.parent)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
