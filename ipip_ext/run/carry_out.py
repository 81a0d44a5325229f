"""A stage is called, its record written, its folder promoted: what every process that runs one does."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from ipip_ext.errors import DeviceLost
from ipip_ext.run import record as records
from ipip_ext.run.events import EventBus
from ipip_ext.run.stage import Call, Context, Done, PartsMaker, Surroundings

JOB = ".job"
"""What the name of a folder ends with in which a job and the run's process tell each other."""


def carry_out(call: Call, around: Surroundings, bus: EventBus, parts: PartsMaker) -> Done:
    """Call the stage in this process, and promote what it makes."""
    compute(call, around, bus, parts)
    return promote(call)


def compute(call: Call, around: Surroundings, bus: EventBus, parts: PartsMaker) -> None:
    """Call the stage in this process, going on where an earlier attempt has ended, and write its record.

    Raises what the stage raises; DeviceLost, with the stage named, where it says that the device is.
    """
    part = records.open_part(call.folder, call.wanted)
    start = time.monotonic()
    context = Context(part, call.said_as, call.wanted["seed"], around.device, bus, around.home, around.root, parts)
    try:
        results = call.stage(context, *call.params, **call.inputs)
    except Exception as error:
        lost = DeviceLost.told_by(error)
        if lost is None:
            raise
        raise DeviceLost(lost.what, call.said_as) from error
    records.write_record(call.wanted, part, results, time.monotonic() - start)


def job_of(folder: Path) -> Path:
    """Return the folder in which the job that makes `folder` and the run's process tell each other."""
    return folder.with_name(folder.name + JOB)


def promote(call: Call) -> Done:
    """Make the stage that has been computed a finished one."""
    part = records.part_of(call.folder)
    records.promote(part, call.folder)
    shutil.rmtree(job_of(call.folder), ignore_errors=True)
    return Done(call.folder, records.read_record(call.folder, call.name))
