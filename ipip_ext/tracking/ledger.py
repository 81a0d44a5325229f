"""`tracking.json`: what of a run folder is in which store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ipip_ext.errors import WorkspaceError
from ipip_ext.run import disk

LEDGER = "tracking.json"


class Ledger:
    """`tracking.json`: for each store which MLflow runs are ours and how many events they hold.

    Raises WorkspaceError when the file is there but can't be understood.
    """

    def __init__(self, path: Path, store: str, experiment: str) -> None:
        self.path = path
        try:
            self._stores: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
            mine = self._stores.get(store, {})
            self.runs: dict[str, str] = {}
            self.mirrored = 0
            if mine.get("experiment") == experiment:
                self.runs, self.mirrored = dict(mine["runs"]), int(mine["mirrored"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WorkspaceError(f"{path} is broken; delete it and run `ipip-mace track {path.parent}`.") from error
        self._store, self._experiment = store, experiment

    def forget(self) -> None:
        """Start anew: no runs, no events mirrored."""
        self.runs, self.mirrored = {}, 0

    def save(self) -> None:
        """Write the file, whole or not at all."""
        mine = {"experiment": self._experiment, "runs": self.runs, "mirrored": self.mirrored}
        self._stores[self._store] = mine
        disk.write(self.path, json.dumps(self._stores, indent=1, sort_keys=True) + "\n")
