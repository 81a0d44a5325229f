"""What MD came to: means with their errors, drift, stops and speed, as data and as a table."""

from __future__ import annotations

import csv
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ipip_ext.data.tables import aligned
from ipip_ext.md.guard import Stop
from ipip_ext.md.replicas import Replica
from ipip_ext.measure.structure_functions import drift
from ipip_ext.potentials.base import Array
from ipip_ext.recipe.walk import Explore
from ipip_ext.simulate import home

Series = Mapping[str, Array]

UNCOUNTED_SHARE = 0.2
"""Of a walk, at its beginning, that means leave out: it has yet to forget its start."""

_FEWEST_BLOCKS = 8
_SHOWN = 20
_FS_PER_NS, _S_PER_DAY = 1e6, 86400.0


def summarise(
    replicas: Sequence[Replica], settings: Explore, log: Path, stops: Sequence[Stop], wall_s: float
) -> dict[str, Any]:
    """Return the summary of finished walks as JSON data. log: their log.csv."""
    series = read_log(log, settings.frame_every)
    by_replica: dict[str, list[Stop]] = defaultdict(list)
    for stop in stops:
        by_replica[stop.replica].append(stop)
    walks = [_walk(replica, settings, series.get(replica.id, {}), by_replica[replica.id]) for replica in replicas]
    return {
        "ensemble": settings.ensemble,
        "timestep_fs": settings.timestep_fs,
        "n_steps": settings.n_steps,
        "walks": walks,
        "speed": _speed(sum(walk["steps"] for walk in walks), settings.timestep_fs, wall_s),
    }


def read_log(path: Path, frame_every: int) -> dict[str, dict[str, Array]]:
    """Return the columns of log.csv for each replica, without frames that were kept for a stop's sake."""
    columns: dict[str, dict[str, array[float]]] = defaultdict(lambda: defaultdict(lambda: array("d")))
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                own = columns[row.pop("replica")]
                if int(row["step"]) % frame_every == 0:
                    for name, value in row.items():
                        own[name].append(float(value))
    return {replica: {name: np.array(values) for name, values in own.items()} for replica, own in columns.items()}


def block_error(values: Array) -> float | None:
    """Return the standard error of the mean of a correlated series, None for one too short to tell.

    values: (n,). The largest error over blocks of 1, 2, 4... values, as long as there are eight of them.
    Source: Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989).
    """
    errors = []
    while len(values) >= _FEWEST_BLOCKS:
        errors.append(float(np.std(values, ddof=1) / np.sqrt(len(values))))
        values = values[: len(values) // 2 * 2].reshape(-1, 2).mean(axis=1)
    return max(errors, default=None)


def table(summary: Mapping[str, Any]) -> str:
    """Return the summary for the terminal."""
    columns = [(title, key, digits) for title, key, digits in _MEANS if any(walk[key] for walk in summary["walks"])]
    drifts = summary["ensemble"] == "nve"
    head = ["replica", "start", "target K", "ps", *(title for title, *_ in columns), *(["drift"] if drifts else [])]
    lines = [head]
    for walk in summary["walks"][:_SHOWN]:
        time_ps = walk["steps"] * summary["timestep_fs"] / 1000
        means = [_plus_minus(walk[key], digits) for _, key, digits in columns]
        slope = walk["nve_drift_meV_per_atom_per_ns"]
        last = ["-" if slope is None else f"{slope:.3g}"] if drifts else []
        lines.append([walk["replica"], walk["start"], walk["target"], f"{time_ps:g}", *means, *last])
    text = [aligned(lines, 2), ""]
    if len(summary["walks"]) > _SHOWN:
        text.append(f"and {len(summary['walks']) - _SHOWN} more walks in summary.json")
    if columns:
        text.append(
            f"means without the first {UNCOUNTED_SHARE:.0%} of a walk, ± standard error by blocks; E in eV/atom"
        )
    if drifts:
        text.append("drift: slope of the total energy, meV/atom/ns")
    text += home.lines(summary["walks"])
    text += [f"stopped: {stop['sentence']}{_AGAIN[stop['restarted']]}" for w in summary["walks"] for stop in w["stops"]]
    speed = summary["speed"]
    text.append(
        f"{speed['replica_steps_per_s']:.4g} steps/s of all replicas, {speed['ms_per_replica_step']:.3g} ms a step of"
        f" one, {speed['ns_per_day']:.3g} ns/day"
    )
    return "\n".join(text)


_MEANS = (
    ("T K", "kinetic_temperature_K", 1),
    ("E pot", "potential_energy_eV_per_atom", 4),
    ("E tot", "total_energy_eV_per_atom", 4),
    ("V A^3", "volume_A3", 2),
    ("p GPa", "pressure_GPa", 3),
)
"""Title, key in the summary, digits."""

_AGAIN = {True: " It began again.", False: ""}


def _walk(replica: Replica, settings: Explore, series: Series, stops: Sequence[Stop]) -> dict[str, Any]:
    n_atoms = len(replica.start)
    ended_early = [stop for stop in stops if not stop.restarted]
    told: dict[str, Any] = {
        "replica": replica.id,
        "start": replica.start_name,
        "n_atoms": n_atoms,
        "target": replica.temperatures.removesuffix(" K"),
        "steps": ended_early[0].md_step if ended_early else settings.n_steps,
        "frames": len(series.get("step", [])),
        "kinetic_temperature_K": _mean(replica, series.get("kinetic_temperature_K")),
        "volume_A3": _mean(replica, series.get("volume_A3")),
        "pressure_GPa": _mean(replica, series.get("pressure_GPa")),
    }
    for name in ("potential_energy_eV", "total_energy_eV"):
        values = series[name] / n_atoms if name in series else None
        told[f"{name}_per_atom"] = _mean(replica, values)
    slope = rest = None
    if settings.ensemble == "nve" and told["frames"] > 2:
        slope, rest = drift(series["time_ps"], series["total_energy_eV"] / n_atoms)
    return told | {
        "nve_drift_meV_per_atom_per_ns": slope,
        "nve_fluctuation_meV_per_atom": rest,
        "home": home.summarise(replica, series),
        "stops": [asdict(stop) for stop in stops],
    }


def _mean(replica: Replica, values: Array | None) -> dict[str, float | None] | None:
    """Return mean and standard error; None of nothing, and of a ramp, whose mean belongs to no temperature."""
    if values is None or not len(values) or replica.end_temperature_K != replica.temperature_K:
        return None
    counted = values[int(UNCOUNTED_SHARE * len(values)) :]
    return {"mean": float(counted.mean()), "standard_error": block_error(counted)}


def _speed(replica_steps: int, timestep_fs: float, wall_s: float) -> dict[str, float]:
    per_s = replica_steps / max(wall_s, 1e-9)
    return {
        "wall_s": wall_s,
        "replica_steps": replica_steps,
        "replica_steps_per_s": per_s,
        "ms_per_replica_step": 1000 * wall_s / max(replica_steps, 1),
        "ns_per_day": per_s * _S_PER_DAY * timestep_fs / _FS_PER_NS,
    }


def _plus_minus(value: Mapping[str, float | None] | None, digits: int) -> str:
    if value is None:
        return "-"
    error = value["standard_error"]
    return f"{value['mean']:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")
