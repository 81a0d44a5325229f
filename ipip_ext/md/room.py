"""Room on the disk for what MD keeps: asked for before the walk, and again before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ipip_ext.errors import RecipeError, WorkspaceError
from ipip_ext.md.kept import bytes_of
from ipip_ext.md.replicas import Replica
from ipip_ext.recipe.walk import Explore

SPARE_BYTES = 200_000_000
"""Left free on the disk, for the rest of the run."""

_GB = 1e9
_TEXT = 2.5
"""The same frames once more, as extended XYZ: bytes in units of those that MD writes."""


def trajectory_bytes(replicas: Sequence[Replica], settings: Explore) -> int:
    """Return the bytes of all frames that these walks may keep, at most."""
    before = settings.guard.keep_before * (settings.guard.restarts + 1)
    return sum(bytes_of(len(r.start)) for r in replicas) * (settings.frames_per_replica + before)


def check_size(replicas: Sequence[Replica], settings: Explore) -> None:
    """Raise RecipeError if these walks may keep more than `max_trajectory_GB`."""
    most = settings.max_trajectory_GB
    wanted = trajectory_bytes(replicas, settings) / _GB
    if most is not None and wanted > most:
        raise RecipeError(
            f"{len(replicas)} replicas x {settings.frames_per_replica} frames take up to {wanted:.3g} GB, more than"
            f" max_trajectory_GB {most:g}; raise it, or frame_every, or take fewer replicas."
        )


def check_room(folder: Path, replicas: Sequence[Replica], settings: Explore, written_bytes: int) -> None:
    """Raise WorkspaceError if the disk of `folder` has no room for what is still to be written."""
    wanted = trajectory_bytes(replicas, settings)
    left = max(0, wanted - written_bytes) + int(_TEXT * wanted)
    free = shutil.disk_usage(folder).free
    if left + SPARE_BYTES > free:
        raise WorkspaceError(
            f"{folder}: the frames of {len(replicas)} replicas need {left / _GB:.3g} GB, and"
            f" {max(0, free - SPARE_BYTES) / _GB:.3g} GB are free beside {SPARE_BYTES / _GB:.3g} for the rest of the"
            " run; make room, or raise frame_every."
        )


def check_write(folder: Path, n_bytes: int) -> None:
    """Raise WorkspaceError if writing `n_bytes` would fill the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if n_bytes + SPARE_BYTES > free:
        raise WorkspaceError(
            f"{folder}: only {free / _GB:.3g} GB are free; all up to the last commit is safe. Make room and run again:"
            " it goes on from there."
        )
