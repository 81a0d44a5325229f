"""What a stage is given, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipip_ext.run.events import Event, EventBus

Outputs = Mapping[str, Any]
"""What a stage returns: files of its folder by name, and values that are JSON."""


@dataclass(frozen=True)
class Context:
    """What a stage is given besides its parameters and inputs.

    folder: where to write; what an earlier, killed attempt left is still there.
    name: the stage's folder relative to the run folder.
    seed: derived from the recipe's seed and the name.
    """

    folder: Path
    name: str
    seed: int
    device: str
    bus: EventBus
    home: Path = Path()
    """Folder of the recipe, where factories of `python:` calculators are looked for."""
    root: Path | None = None
    """The run folder; nothing in it but inputs may decide what a stage makes."""
    spare_processes: int = 0
    """How many more processes a stage may start, each with as many threads as this one has."""

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Say a number; the unit is part of the name."""
        self.bus.emit(Event("metric", name, float(value), self.name, step))

    def progress(self, share: float, text: str) -> None:
        """Say how far the stage is, 0..1."""
        self.bus.emit(Event("progress", self.name, share, self.name, data={"text": text}))

    def note(self, text: str) -> None:
        """Say one line to the reader."""
        self.bus.emit(Event("note", text, stage=self.name))


@dataclass(frozen=True)
class Done:
    """A finished stage; its outputs are attributes: paths for files, values for the rest."""

    folder: Path
    record: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        record = self.__dict__["record"]
        if name in record["outputs"]:
            return self.folder / record["outputs"][name]["file"]
        if name in record["values"]:
            return record["values"][name]
        raise AttributeError(f"stage {record['stage']} has no output {name}")
