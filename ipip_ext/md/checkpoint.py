"""MD on disk: frames in segments that are only ever added, and a state that counts them.

A commit writes the new segment and then the state, each under another name first, synced and
renamed. So a kill at any moment leaves the last commit whole, and segments it does not count are
written again. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ipip_ext.errors import WorkspaceError
from ipip_ext.md.guard import Stop
from ipip_ext.md.replicas import Replica
from ipip_ext.potential import Array
from ipip_ext.recipe import Explore

STATE, PLAN = "state.npz", "plan.json"


@dataclass(frozen=True)
class Kept:
    """A kept frame. replica: index within the chunk. positions A, forces eV/A: (n_atoms, 3)."""

    replica: int
    md_step: int
    energy_eV: float
    positions: Array
    forces: Array


@dataclass
class State:
    """Where a chunk stands.

    alive: indices of the replicas still walking. arrays: positions, momenta, forces (n_rows, 3);
    energies_eV, reference_energies_eV (n_alive,). rng: generator states of those alive.
    """

    md_step: int
    alive: list[int]
    arrays: dict[str, Array]
    rng: list[dict[str, Any]]
    stops: list[Stop]
    segments: int = 0


@dataclass
class Store:
    """The folder of one chunk. natoms: of each replica of the chunk."""

    folder: Path
    natoms: Sequence[int]
    segments: int = 0
    pending: list[Kept] = field(default_factory=list)

    def load(self) -> State | None:
        """Return the last committed state, or None. Raises WorkspaceError if it is broken."""
        path = self.folder / STATE
        if not path.exists():
            return None
        arrays = _read(path)
        told = json.loads(str(arrays.pop("told")))
        told["stops"] = [Stop(**stop) for stop in told["stops"]]
        self.segments = int(told["segments"])
        return State(arrays=arrays, **told)

    def commit(self, state: State) -> None:
        """Write the pending frames and then `state`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.pending:
            _write(self._segment(self.segments), _flat(self.pending))
            self.segments += 1
            self.pending = []
        state.segments = self.segments
        told = {key: value for key, value in vars(state).items() if key != "arrays"}
        told["stops"] = [asdict(stop) for stop in state.stops]
        _write(self.folder / STATE, {**state.arrays, "told": np.array(json.dumps(told))})

    def frames(self) -> Iterator[Kept]:
        """Yield every committed frame. Raises WorkspaceError if a segment is broken."""
        for number in range(self.segments):
            data = _read(self._segment(number))
            sizes = np.cumsum([self.natoms[int(replica)] for replica in data["replica"]])[:-1]
            yield from (
                Kept(int(replica), int(md_step), float(energy), positions, forces)
                for replica, md_step, energy, positions, forces in zip(
                    data["replica"], data["md_step"], data["energy_eV"],
                    np.split(data["positions"], sizes), np.split(data["forces"], sizes), strict=True,
                )
            )  # fmt: skip

    def _segment(self, number: int) -> Path:
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
    plain = settings.model_dump(mode="json", exclude={"starts"})
    digest = hashlib.sha256(json.dumps([potential, plain], sort_keys=True).encode())
    for replica in replicas:
        start = replica.start
        digest.update(f"{replica.id}/{replica.temperature_K}/{replica.seed}/{start.pbc.tolist()}".encode())
        for values in (start.numbers, start.positions, start.cell.array, start.get_masses()):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _flat(frames: Sequence[Kept]) -> dict[str, Any]:
    return {
        "replica": np.array([frame.replica for frame in frames]),
        "md_step": np.array([frame.md_step for frame in frames]),
        "energy_eV": np.array([frame.energy_eV for frame in frames]),
        "positions": np.concatenate([frame.positions for frame in frames]),
        "forces": np.concatenate([frame.forces for frame in frames]),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as data:
            return dict(data)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise WorkspaceError(f"{path}: can't be read ({error}); remove {path.parent} to walk it again.") from error


def _write(path: Path, arrays: dict[str, Any]) -> None:
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    _replace(path, buffer.getvalue())


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
