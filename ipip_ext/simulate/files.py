"""Trajectory and log of MD, which grow while it walks."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.stress import full_3x3_to_voigt_6_stress

from ipip_ext.data.storable import storable
from ipip_ext.md.checkpoint import STATE, Store
from ipip_ext.md.guard import Watch
from ipip_ext.md.kept import Kept, as_atoms
from ipip_ext.md.replicas import Replica, fixed_atoms
from ipip_ext.potentials.base import Array
from ipip_ext.potentials.home import EDGE
from ipip_ext.recipe.walk import Explore
from ipip_ext.run import disk
from ipip_ext.simulate import home
from ipip_ext.units import EV_PER_A3_PER_GPA, KB_EV_PER_K

TRAJECTORY, LOG = "trajectory.extxyz", "log.csv"
_RECORD = "written.json"


class Written:
    """`trajectory.extxyz` and `log.csv` in `folder`, with every frame that MD in `folder / walk` has committed.

    Frames come in the order in which MD kept them, one segment in memory at a time. How far the files are right is
    recorded after each segment, and what a kill left behind that is cut off: they end bitwise as without it.
    watch: gives home distances, which frames and log then hold too. warn: is told the first time that one is above 1.
    """

    def __init__(
        self, folder: Path, walk: str, replicas: Sequence[Replica], settings: Explore, watch: Watch | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.folder, self.walk = folder, folder / walk
        self.replicas, self.settings = replicas, settings
        self.watch, self.warn, self._has_warned = watch, warn, False
        self._seen: tuple[int, int] | None = None
        self._begun_s = time.monotonic()
        self._restore()

    @property
    def wall_s(self) -> float:
        """Seconds spent on what is written, before a stop too."""
        return self._before_s + time.monotonic() - self._begun_s

    def update(self) -> None:
        """Append what MD has committed since the last time."""
        state = self.walk / STATE
        if not state.exists():
            return
        told = state.stat()
        if (told.st_ino, told.st_mtime_ns) == self._seen:
            return
        store = Store(self.walk, self.replicas)
        store.load()
        for number in range(self._segments, store.segments):
            self._append(store.segment(number))
        self._seen = (told.st_ino, told.st_mtime_ns)

    def _restore(self) -> None:
        path = self.walk / _RECORD
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self._before_s = float(told.get("wall_s", 0.0))
        self._segments, self._bytes, self.n_frames = 0, {TRAJECTORY: 0, LOG: 0}, 0
        files = {name: self.folder / name for name in self._bytes}
        if told and all(file.exists() and file.stat().st_size >= told["bytes"][name] for name, file in files.items()):
            self._segments, self._bytes, self.n_frames = told["segments"], told["bytes"], told["n_frames"]
        self._columns: list[str] | None = None
        if self._bytes[LOG]:  # a walk that an older version has begun goes on with its columns
            with files[LOG].open(newline="", encoding="utf-8") as log:
                self._columns = next(csv.reader(log))
            self.watch = self.watch if home.COLUMNS[0] in self._columns else None

    def _append(self, segment: Iterator[Kept]) -> None:
        with self._opened(TRAJECTORY) as trajectory, self._opened(LOG) as log:
            for kept in segment:
                replica = self.replicas[kept.replica]
                frame = as_atoms(kept, replica, self.settings)
                distances = self._look(frame)
                row = _row(kept, replica, self.settings) | home.columns(distances)
                if self._columns is None:
                    self._columns = [name for name in row if self.watch is not None or name not in home.COLUMNS]
                    log.write(_line(self._columns))
                log.write(_line([row[name] for name in self._columns]))
                trajectory.write(_xyz(frame, distances, row["kinetic_temperature_K"]))
                self.n_frames += 1
            for name, file in ((TRAJECTORY, trajectory), (LOG, log)):
                file.flush()
                os.fsync(file.fileno())
                self._bytes[name] = file.tell()
        self._segments += 1
        write_json(
            self.walk / _RECORD,
            {"segments": self._segments, "bytes": self._bytes, "n_frames": self.n_frames, "wall_s": self.wall_s},
        )

    def _look(self, frame: Atoms) -> Array | None:
        if self.watch is None:
            return None
        distances = self.watch(frame)
        if not self._has_warned and distances.max() > EDGE:
            self._has_warned = True
            self.warn(home.first_words(frame, distances))
        return distances

    def _opened(self, name: str) -> BinaryIO:
        """Open a file at the end of what is known to be right; whatever stands behind goes."""
        path = self.folder / name
        path.touch()
        file = path.open("r+b")
        file.truncate(self._bytes[name])
        file.seek(self._bytes[name])
        return file


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    disk.write(path, json.dumps(content, indent=1) + "\n")


def degrees_of_freedom(start: Atoms, ensemble: str) -> int:
    """Return how many ways to move share the kinetic energy of a walk.

    NVE and Bussi's thermostat leave the centre of mass at rest, where it began; Langevin's moves that too.
    """
    fixed = len(fixed_atoms(start))
    at_rest = ensemble in ("nve", "nvt_bussi") and not fixed and len(start) > 1
    return 3 * (len(start) - fixed) - (3 if at_rest else 0)


def _row(kept: Kept, replica: Replica, settings: Explore) -> dict[str, Any]:
    """Return a line of the log. The engine's temperature is over three directions of every atom that is free."""
    all_free = 3 * (len(replica.start) - len(fixed_atoms(replica.start)))
    kinetic_eV = 0.5 * all_free * KB_EV_PER_K * kept.kinetic_temperature_K
    temperature_K = kept.kinetic_temperature_K * all_free / degrees_of_freedom(replica.start, settings.ensemble)
    row = {
        "step": kept.md_step,
        "time_ps": f"{kept.md_step * settings.timestep_fs / 1000:.6f}",
        "replica": replica.id,
        "potential_energy_eV": f"{kept.energy_eV:.8f}",
        "kinetic_energy_eV": f"{kinetic_eV:.8f}",
        "total_energy_eV": f"{kept.energy_eV + kinetic_eV:.8f}",
        "kinetic_temperature_K": f"{temperature_K:.3f}",
    }
    if kept.stress is not None:
        volume_A3 = abs(float(np.linalg.det(kept.cell)))
        pressure = 2 * kinetic_eV / (3 * volume_A3) - float(np.trace(kept.stress)) / 3
        row |= {"volume_A3": f"{volume_A3:.5f}", "pressure_GPa": f"{pressure / EV_PER_A3_PER_GPA:.5f}"}
    return row


def _line(values: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()


def _xyz(frame: Atoms, distances: Array | None, kinetic_temperature_K: str) -> bytes:
    """Return a frame as extended XYZ, with energy, forces and stress under the names that ASE gives them."""
    labels: dict[str, Any] = {"energy": frame.info.pop("MD_energy"), "forces": frame.arrays.pop("MD_forces")}
    if (stress := frame.info.pop("MD_stress", None)) is not None:
        labels["stress"] = full_3x3_to_voigt_6_stress(stress)
    frame.info.pop("MD_kinetic_temperature_K")
    frame.info["kinetic_temperature_K"] = float(kinetic_temperature_K)
    frame = storable(frame)
    if distances is not None:
        frame.set_array("home_distances", np.round(distances, 4))
    frame.calc = SinglePointCalculator(frame, **labels)
    text = io.StringIO()
    write_extxyz(text, [frame])
    return text.getvalue().encode()
