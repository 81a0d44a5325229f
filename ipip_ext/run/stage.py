"""What a stage is given, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.later import IsLate, Later, Source

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
    parts_maker: PartsMaker | None = None

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Say a number; the unit is part of the name."""
        self.bus.emit(Event("metric", name, float(value), self.name, step))

    def progress(self, share: float, text: str) -> None:
        """Say how far the stage is, 0..1."""
        self.bus.emit(Event("progress", self.name, share, self.name, data={"text": text}))

    def note(self, text: str) -> None:
        """Say one line to the reader."""
        self.bus.emit(Event("note", text, stage=self.name))

    def parts(
        self, stage: Callable[..., Outputs], wanted: Mapping[str, Mapping[str, Any]], *, executor: str = ""
    ) -> dict[str, Done]:  # fmt: skip
        """Return finished parts of this stage, by name: calls of `stage` with these inputs, side by side if they can.

        Where they run elsewhere this stage ends here, and is called again when they stand; so whatever it has worked
        out before must be kept in its folder. Parts stand in `parts_folder`.
        """
        assert self.parts_maker is not None, "this context makes no parts"
        return self.parts_maker(self, stage, wanted, executor)

    @property
    def parts_folder(self) -> Path:
        """Where the parts stand until this stage is whole: a stage that has gathered them removes it."""
        return self.folder / "parts"


class PartsMaker(Protocol):
    """Makes the parts of a stage; see `Context.parts`."""

    def __call__(
        self, ctx: Context, stage: Callable[..., Outputs], wanted: Mapping[str, Mapping[str, Any]], executor: str
    ) -> dict[str, Done]:  # fmt: skip
        """Return the finished parts."""


@dataclass(frozen=True)
class Call:
    """A stage to be called: the function, what it is given, its fingerprint, and where it shall stand when it is whole.

    said_as: the stage as which it speaks. executor: where it runs, "" where stages of its name do.
    """

    stage: Callable[..., Outputs]
    params: tuple[Any, ...]
    inputs: Mapping[str, Any]
    wanted: dict[str, Any]
    folder: Path
    said_as: str
    executor: str = ""

    @property
    def name(self) -> str:
        """Its name in the run folder."""
        return str(self.wanted["stage"])


@dataclass(frozen=True)
class Surroundings:
    """What all calls of a run share.

    device: of torch. home: folder of the recipe. root: the run folder. threads: of torch, None for its own choice.
    owner: id of the lock under which the run is at work, "" for none.
    """

    device: str
    home: Path
    root: Path
    threads: int | None = None
    owner: str = ""


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

    def get(self, name: str, default: Any) -> Any:
        """Return the output `name`, `default` if the stage has left none of that name."""
        return getattr(self, name, default)


class Coming(Done, IsLate):
    """A stage that is under way: its outputs stand for what will be there, and wait when they are looked at."""

    def __init__(self, folder: Path, source: Source) -> None:
        object.__setattr__(self, "folder", folder)
        object.__setattr__(self, "source", source)

    @property
    def record(self) -> dict[str, Any]:
        """Its record, once it is finished."""
        found: dict[str, Any] = self.source.wait().record
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.source.is_over:
            return getattr(self.source.wait(), name)
        return Later(lambda: getattr(self.source.wait(), name), (self.source,))

    def get(self, name: str, default: Any) -> Any:
        """Return the output `name`, or what stands for it; `default` if the stage leaves none of that name."""
        if self.source.is_over:
            return self.source.wait().get(name, default)
        return Later(lambda: self.source.wait().get(name, default), (self.source,))
