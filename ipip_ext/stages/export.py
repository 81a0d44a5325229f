"""export: the chosen student as an ordinary MACE model, and as files without pickle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipip_ext.backends import registry
from ipip_ext.run.workspace import Context


def export(
    ctx: Context, *, model: Path, backend: str, iteration: int, committee: Mapping[str, Path] | None
) -> dict[str, Any]:
    """Write the student of `iteration` in all its formats, and the committee around it where there is one."""
    engine = registry.backend(backend)
    engine.export(engine.load(model), ctx.folder)
    if committee is not None:
        shutil.copytree(committee["members"], ctx.folder / "committee", dirs_exist_ok=True)
        shutil.copyfile(committee["calibration"], ctx.folder / "calibration.json")
    files = {path.name.replace(".", "_"): path for path in sorted(ctx.folder.iterdir()) if path.name != "part.json"}
    return {**files, "iteration": iteration, "backend": backend}
