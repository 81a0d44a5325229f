"""export: the chosen student as an ordinary MACE model, and as files without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipip_ext.backends import registry
from ipip_ext.workspace import Context


def export(ctx: Context, *, model: Path, backend: str, iteration: int) -> dict[str, Any]:
    """Write the student of `iteration` in all its formats."""
    engine = registry.backend(backend)
    engine.export(engine.load(model), ctx.folder)
    files = {path.name.replace(".", "_"): path for path in sorted(ctx.folder.iterdir()) if path.name != "part.json"}
    return {**files, "iteration": iteration, "backend": backend}
