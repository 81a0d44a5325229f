"""MD on disk: frames in segments that are only ever added, and a state that counts them.

A commit writes the new segment and then the state, each under another name first, synced and
renamed. So a kill at any moment leaves the last commit whole, and segments it does not count are
written again. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ipip_ext.errors import WorkspaceError
from ipip_ext.md.guard import Stop
from ipip_ext.md.kept import Kept, bytes_of, flat, unflat
from ipip_ext.md.replicas import Replica, content_of
from ipip_ext.md.room import check_write
from ipip_ext.md.walkers import Walker, pack, unpack
from ipip_ext.potentials.batches import cut
from ipip_ext.recipe.walk import Explore
from ipip_ext.run import disk

STATE, PLAN = "state.npz", "plan.json"

READ_AT_ONCE_BYTES = 200_000_000
"""Frames held while they are put in order; more of them are read in several turns."""


@dataclass
class State:
    """Where MD stands. entered: replicas that have begun, in the order of the queue."""

    entered: int
    walkers: list[Walker]
    stops: list[Stop]


@dataclass
class Store:
    """The folder of MD. replicas: all of the plan. pending: frames that wait for the next commit."""

    folder: Path
    replicas: Sequence[Replica]
    segments: int = 0
    written_bytes: int = 0
    pending: list[Kept] = field(default_factory=list)
    pending_bytes: int = 0

    def load(self) -> State | None:
        """Return the last committed state, or None. Raises WorkspaceError if it is broken."""
        path = self.folder / STATE
        if not path.exists():
            return None
        arrays = _read(path)
        told = json.loads(str(arrays.pop("told")))
        self.segments, self.written_bytes = told["segments"], told["written_bytes"]
        stops = [Stop(**{**stop, "frame_ids": tuple(stop["frame_ids"])}) for stop in told["stops"]]
        return State(told["entered"], unpack(told["walkers"], arrays, self.replicas), stops)

    def keep(self, kept: Kept) -> None:
        """Take a frame for the next commit."""
        self.pending.append(kept)
        self.pending_bytes += bytes_of(len(kept.positions))

    def commit(self, state: State) -> None:
        """Write the pending frames and then `state`. Raises WorkspaceError if that would fill the disk."""
        walkers, arrays = pack(state.walkers)
        check_write(self.folder, self.pending_bytes + sum(values.nbytes for values in arrays.values()))
        if self.pending:
            _write(self._file(self.segments), flat(self.pending))
            self.segments += 1
            self.written_bytes += self.pending_bytes
            self.pending, self.pending_bytes = [], 0
        told = {
            "entered": state.entered,
            "walkers": walkers,
            "stops": [asdict(stop) for stop in state.stops],
            "segments": self.segments,
            "written_bytes": self.written_bytes,
        }
        _write(self.folder / STATE, {**arrays, "told": np.array(json.dumps(told))})

    def counts(self) -> Counter[int]:
        """Return how many frames are committed of each replica, by its number."""
        return Counter(int(n) for i in range(self.segments) for n in _read(self._file(i), only="replica")["replica"])

    def frames(self) -> Iterator[Kept]:
        """Yield every committed frame, by replica's id and by step. Raises WorkspaceError if a segment is broken.

        Segments hold frames as they came, so some replicas are picked out of all of them at a time.
        """
        counts = self.counts()
        numbers = sorted(counts, key=lambda number: self.replicas[number].id)
        for group in cut(numbers, lambda n: counts[n] * bytes_of(len(self.replicas[n].start)), READ_AT_ONCE_BYTES):
            place = {number: index for index, number in enumerate(group)}
            every = (kept for i in range(self.segments) for kept in self.segment(i))
            own = [kept.copy() for kept in every if kept.replica in place]  # or each would hold its whole segment
            yield from sorted(own, key=lambda kept: (place[kept.replica], kept.md_step))

    def segment(self, number: int) -> Iterator[Kept]:
        """Yield the frames of a committed segment, in the order in which they were kept.

        Raises WorkspaceError if it is broken.
        """
        return unflat(_read(self._file(number)), self.replicas)

    def _file(self, number: int) -> Path:
        return self.folder / f"frames-{number:06d}.npz"


def claim(folder: Path, replicas: Sequence[Replica], settings: Explore, potential: str) -> None:
    """Mark `folder` as holding these walks. Raises WorkspaceError if it holds others."""
    told = {"sha256": _fingerprint(replicas, settings, potential)}
    path = folder / PLAN
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _replace(path, json.dumps(told).encode())
        return
    if path.read_text(encoding="utf-8") != json.dumps(told):
        raise WorkspaceError(f"{folder}: holds MD of other starts, settings or potential; remove it to start over.")


def _fingerprint(replicas: Sequence[Replica], settings: Explore, potential: str) -> str:
    plain = settings.model_dump(mode="json", exclude={"starts", "max_trajectory_GB"})
    digest = hashlib.sha256(json.dumps([potential, plain], sort_keys=True).encode())
    for replica in replicas:
        start = replica.start
        digest.update(f"{replica.id}/{replica.temperatures}/{replica.seed}/{start.pbc.tolist()}".encode())
        digest.update(content_of(start))
    return digest.hexdigest()


def _read(path: Path, only: str | None = None) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as data:
            return dict(data) if only is None else {only: data[only]}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise WorkspaceError(f"{path}: can't be read ({error}); remove {path.parent} to walk it again.") from error


def _write(path: Path, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    _replace(path, buffer.getvalue())


def _replace(path: Path, content: bytes) -> None:
    try:
        disk.write(path, content)
    except OSError as error:
        raise WorkspaceError(
            f"{path}: can't be written ({error.strerror}); make room and run again, it goes on from the last commit."
        ) from error
    disk.sync(path.parent)
