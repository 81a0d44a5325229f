"""export: the chosen student as an ordinary MACE model, and as files without pickle."""

from __future__ import annotations

import shutil
from typing import Any

from ipip_ext.backends import registry
from ipip_ext.run.stage import Context
from ipip_ext.stages.inputs import Exported, Student


def export(ctx: Context, *, student: Student, iteration: int, committee: Exported | None) -> dict[str, Any]:
    """Write the student of `iteration` in all its formats, and the committee around it where there is one."""
    engine = registry.backend(student.backend)
    engine.export(engine.load(student.model), ctx.folder)
    if committee is not None:
        shutil.copytree(committee.members, ctx.folder / "committee", dirs_exist_ok=True)
        shutil.copyfile(committee.calibration, ctx.folder / "calibration.json")
    files = {path.name.replace(".", "_"): path for path in sorted(ctx.folder.iterdir()) if path.name != "part.json"}
    return {**files, "iteration": iteration, "backend": student.backend}
