"""What `background` starts, by `run/processes.py`: arguments are the run's folder and the recipe's."""

from __future__ import annotations

import sys
from pathlib import Path

from ipip_ext import admission, loop
from ipip_ext.baselines import train_scratch
from ipip_ext.recipe.baselines import Scratch
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run import layout
from ipip_ext.run.console import LogFile
from ipip_ext.run.events import Event, EventBus, JsonLines
from ipip_ext.run.processes import tell
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.inputs import Task


def main(folder: Path, home: Path) -> None:
    """Train the from-scratch baseline of the run in `folder`, whose data are prepared.

    The folder's lock is the first process's; this one writes there only while that one lives.
    """
    recipe = admission.on_this_machine(load_recipe(folder / layout.RECIPE))
    bus = EventBus([JsonLines(folder / layout.EVENTS), LogFile(folder / layout.LOG), _tell_progress])
    work = Workspace(folder, bus, recipe.seed, recipe.device, home=home)
    data = loop.prepare_data(recipe, work)
    for baseline in recipe.baselines:
        if isinstance(baseline, Scratch):
            train_scratch(recipe, work, baseline, data.e0s_eV, Task(data.train, data.valid))


def _tell_progress(event: Event) -> None:
    """A sink: tell the first process, for when it waits."""
    if event.kind == "progress":
        tell(share=event.value, text=event.data["text"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
