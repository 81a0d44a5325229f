"""Files that are made wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ase import Atoms

from ipip_ext.data import frames as fr

RUN = Path("runs/tiny")
"""The finished run, as the fixture `finished` has it."""


def edit(path: str, change: Callable[[list[Atoms]], list[Atoms]]) -> None:
    fr.write_frames(Path(path), change(fr.read_frames(Path(path))))


def swap(frame: Atoms, old: str, new: str) -> Atoms:
    frame.symbols[frame.symbols == old] = new
    return frame


def each(change: Callable[[Atoms], None], *only: int) -> Callable[[list[Atoms]], list[Atoms]]:
    def changed(frames: list[Atoms]) -> list[Atoms]:
        for index in only or range(len(frames)):
            change(frames[index])
        return frames

    return changed


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_model(path: Path) -> None:
    truncate(path / "student.safetensors")
