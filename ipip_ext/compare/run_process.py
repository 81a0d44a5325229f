"""A run of a grid, but for what is timed, in a process of its own; see `side_by_side.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ipip_ext import runner
from ipip_ext.errors import IpipError
from ipip_ext.recipe.file import parse_recipe
from ipip_ext.run import signals
from ipip_ext.run.processes import tell


def main(request: Path) -> None:
    """Run what `request` tells; say which error of ours it ended with, if it did."""
    told = json.loads(request.read_text(encoding="utf-8"))
    recipe = parse_recipe(told["recipe"], where=told["file"], root=Path(told["home"]))
    try:
        with signals.stoppable():
            runner.run(
                recipe, Path(told["folder"]), quiet=True, check=lambda _: None,  # the grid has checked all
                siblings=tuple(map(Path, told["siblings"])), tags=told["tags"], times=False,
            )  # fmt: skip
    except IpipError as error:
        tell(error={"kind": type(error).__name__, "message": str(error)})
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
