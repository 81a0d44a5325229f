"""export: the chosen student as an ordinary MACE model, as files without pickle, and with where it is at home."""

from __future__ import annotations

import shutil
from typing import Any

from ipip_ext.backends import registry
from ipip_ext.data import frames as fr
from ipip_ext.run.stage import Context
from ipip_ext.stages.inputs import Exported, Learnt, Student


def export(
    ctx: Context, *, student: Student, iteration: int, committee: Exported | None, learnt: Learnt | None = None
) -> dict[str, Any]:  # fmt: skip
    """Write the student of `iteration` in all its formats, and the committee around it where there is one.

    learnt: the task that it has learnt, by which it tells later where it is not at home; None: it can't.
    """
    engine = registry.backend(student.backend)
    model = engine.load(student.model)
    engine.export(model, ctx.folder)
    if learnt is not None:
        train, valid = fr.read_frames(learnt.task.train), fr.read_frames(learnt.task.valid)
        engine.settle(model, ctx.folder, train, valid, ctx.device)
    if committee is not None:
        shutil.copytree(committee.members, ctx.folder / "committee", dirs_exist_ok=True)
        shutil.copyfile(committee.calibration, ctx.folder / "calibration.json")
    files = {path.name.replace(".", "_"): path for path in sorted(ctx.folder.iterdir()) if path.name != "part.json"}
    return {**files, "iteration": iteration, "backend": student.backend}
