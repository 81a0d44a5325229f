"""properties: what a model says of energy conservation, structure, dynamics and elasticity.

One NVE walk from each start serves the first three. What is written are the model's own curves;
`agreement` holds them against a reference afterwards, so that another reference walks nothing anew.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext import md
from ipip_ext.data import frames as fr
from ipip_ext.data.tables import write_csv
from ipip_ext.errors import DataError
from ipip_ext.measure import structure_functions as sf
from ipip_ext.measure.property_curves import check_trajectory
from ipip_ext.potentials.base import Array, Potential
from ipip_ext.potentials.cells import closed
from ipip_ext.potentials.compute import compute_each
from ipip_ext.recipe.evaluate import Properties
from ipip_ext.recipe.walk import Explore
from ipip_ext.run.stage import Context
from ipip_ext.stages.evaluate import potential_of
from ipip_ext.stages.inputs import Measuring, Model
from ipip_ext.units import MEV_PER_EV

_RDF_FRAMES, _CURVE_POINTS, _HIGHEST_THZ = 200, 200, 150.0
_PREFIX = "properties"
FILES = ("strain", "walks", "energy", "rdf", "vdos")


def as_nve(settings: Properties, starts: Path, max_batch_replicas: int) -> Explore:
    """Return the NVE walk that `settings` ask for; every step is kept, for velocities come from differences."""
    return Explore(
        starts=settings.starts or starts,
        ensemble="nve",
        temperatures_K=(settings.temperature_K,),
        initial_temperature_factor=2.0,
        timestep_fs=settings.timestep_fs,
        n_steps=round(settings.time_ps * 1000 / settings.timestep_fs),
        frame_every=1,
        max_batch_replicas=max_batch_replicas,
        guard=settings.guard,
    )


def properties(
    ctx: Context, walk: Explore, *, model: Model, measured: Measuring, seed: int
) -> dict[str, Any]:  # fmt: skip
    """Strain cells and walk with a model; write its curves, and of how energy is conserved the numbers too.

    seed: the same for all.
    """
    potential = potential_of(model, ctx)
    structures = fr.read_structures(measured.starts)
    keys = fr.LabelKeys(*measured.label_keys)
    labelled = None if measured.strained is None else fr.read_labelled(measured.strained, keys)
    write_csv(ctx.folder / "strain.csv", _strain_curves(potential, structures, labelled, measured.strains))
    walkers = structures if measured.trajectory is None else fr.read_structures(measured.trajectory)[:1]
    replicas = md.plan_replicas(walkers, walk, seed, _PREFIX)
    for said in filter(None, (md.too_long(walk.timestep_fs, walkers), _unstrained(structures, labelled))):
        ctx.note(said)
    chunks = ctx.folder / "md"
    chunks.mkdir(exist_ok=True)
    walked = md.run(potential, replicas, walk, chunks, _teller(ctx))
    stops = {stop.replica: stop for stop in walked.stops}
    skip = round(measured.skip_ps * 1000 / walk.timestep_fs)
    energies: dict[str, _Energies] = {}
    rows: dict[str, list[dict[str, Any]]] = {"energy": [], "rdf": [], "vdos": []}
    for name, some in itertools.groupby(walked, key=lambda frame: str(frame.info["replica"])):
        if name in stops:
            continue
        frames = list(some)
        energies[name] = _Energies.of(frames, walk.timestep_fs)
        rows["energy"] += energies[name].rows(name)
        rows["rdf"] += _rdf_rows(name, frames[skip:], measured.rdf_max_A)
        rows["vdos"] += _vdos_rows(name, frames[skip:], walk.timestep_fs)
    write_csv(ctx.folder / "walks.csv", [_walk_row(r, energies.get(r.id), stops.get(r.id), walk) for r in replicas])
    for kind, lines in rows.items():
        write_csv(ctx.folder / f"{kind}.csv", lines)
    (ctx.folder / "stops.json").write_text(json.dumps([asdict(s) for s in stops.values()], indent=1), encoding="utf-8")
    shutil.rmtree(chunks)
    values = _values(len(replicas), list(energies.values()))
    ctx.note(
        f"{len(energies)} of {len(replicas)} NVE walks of {walk.n_steps * walk.timestep_fs / 1000:g} ps ended sanely"
    )
    outputs = {name: ctx.folder / f"{name}.csv" for name in FILES}
    return {**outputs, "measured": values, "n_walks": len(replicas)}


def trajectory_properties(
    ctx: Context, *, trajectory: Path, step_fs: float | None, skip_ps: float, rdf_max_A: float
) -> dict[str, Any]:  # fmt: skip
    """Write the RDF, and where the time between frames is known the VDOS, of a reference trajectory."""
    frames = fr.read_structures(trajectory)
    check_trajectory(trajectory, frames)
    frames = frames[0 if step_fs is None else round(skip_ps * 1000 / step_fs) :]
    if len(frames) < 4:
        raise DataError(f"{trajectory}: holds {len(frames)} frames after trajectory_skip_ps; it takes many more.")
    name = f"{_PREFIX}-md00"
    write_csv(ctx.folder / "rdf.csv", _rdf_rows(name, frames, rdf_max_A))
    write_csv(ctx.folder / "vdos.csv", [] if step_fs is None else _vdos_rows(name, frames, step_fs))
    return {"rdf": ctx.folder / "rdf.csv", "vdos": ctx.folder / "vdos.csv", "n_frames": len(frames)}


@dataclass(frozen=True)
class _Energies:
    """Total energy of a walk, eV/atom, at times in ps: (n_steps - 2,); its drift, and the RMS about that line."""

    time_ps: Array
    total_eV_per_atom: Array
    drift_meV_per_atom_per_ns: float
    fluctuation_meV_per_atom: float

    @classmethod
    def of(cls, frames: Sequence[Atoms], step_fs: float) -> _Energies:
        kinetic_eV = sf.kinetic_energies(_velocities(frames, step_fs), frames[0].get_masses())
        potential_eV = np.array([frame.info["MD_energy"] for frame in frames])[1:-1]
        total = (kinetic_eV + potential_eV) / len(frames[0])
        time_ps = np.array([frame.info["md_step"] for frame in frames])[1:-1] * step_fs / 1000
        return cls(time_ps, total, *sf.drift(time_ps, total))

    def rows(self, name: str) -> list[dict[str, Any]]:
        change = (self.total_eV_per_atom - self.total_eV_per_atom[0]) * MEV_PER_EV
        some = range(0, len(change), -(-len(change) // _CURVE_POINTS))
        return [
            {"walk": name, "time_ps": round(float(self.time_ps[i]), 6), "energy_meV_per_atom": f"{change[i]:.6g}"}
            for i in some
        ]


def _values(n_walks: int, energies: Sequence[_Energies]) -> dict[str, float]:
    values = {"nve_sane_share": len(energies) / n_walks}
    if energies:
        # the size of the slopes: walks that heat up and walks that cool down must not make each other good
        drifts = [abs(e.drift_meV_per_atom_per_ns) for e in energies]
        values["nve_drift_meV_per_atom_per_ns"] = float(np.mean(drifts))
        values["nve_fluctuation_meV_per_atom"] = float(np.mean([e.fluctuation_meV_per_atom for e in energies]))
    return values


def _walk_row(replica: md.Replica, energies: _Energies | None, stop: md.Stop | None, walk: Explore) -> dict[str, Any]:
    md_step = walk.n_steps if stop is None else stop.md_step
    return {
        "walk": replica.id,
        "start": replica.start_name,
        "n_atoms": len(replica.start),
        "time_ps": f"{md_step * walk.timestep_fs / 1000:g}",
        "drift_meV_per_atom_per_ns": "" if energies is None else f"{energies.drift_meV_per_atom_per_ns:.6g}",
        "fluctuation_meV_per_atom": "" if energies is None else f"{energies.fluctuation_meV_per_atom:.6g}",
        "reason": "" if stop is None else stop.reason,
    }


def _velocities(frames: Sequence[Atoms], step_fs: float) -> Array:
    first = frames[0]
    positions = np.array([frame.positions for frame in frames])
    return sf.velocities(positions, closed(first.cell.array, first.pbc), first.pbc, step_fs)


def _rdf_rows(name: str, frames: Sequence[Atoms], longest_A: float) -> list[dict[str, Any]]:
    r_A, parts = sf.rdf(frames[:: -(-len(frames) // _RDF_FRAMES)], longest_A)
    return [
        {"walk": name, "pair": pair, "r_A": round(float(r), 4), "g": f"{value:.6g}"}
        for pair, g in parts.items()
        for r, value in zip(r_A, g, strict=True)
    ]


def _vdos_rows(name: str, frames: Sequence[Atoms], step_fs: float) -> list[dict[str, Any]]:
    frequency_THz, density = sf.vdos(_velocities(frames, step_fs), frames[0].get_masses(), step_fs)
    return [
        {"walk": name, "frequency_THz": f"{f:.6g}", "density_per_THz": f"{value:.6g}"}
        for f, value in zip(frequency_THz, density, strict=True)
        if f <= _HIGHEST_THZ
    ]


def _unstrained(structures: Sequence[Atoms], labelled: Sequence[Atoms] | None) -> str:
    """Return in a sentence which starts have no direction to be strained along, "" if all have."""
    if labelled is not None:
        return ""
    names = [name for name, atoms in _named(structures) if not any(sf.strained_directions(atoms))]
    return f"{', '.join(names)}: periodic along no direction without vacuum, so no energy under strain" if names else ""


def _named(structures: Sequence[Atoms]) -> list[tuple[str, Atoms]]:
    """Return structures by their names; one that several have is told apart by their places."""
    names = [str(atoms.info.get("name", f"start{i}")) for i, atoms in enumerate(structures)]
    apart = (name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names))
    return list(zip(apart, structures, strict=True))


def _strain_curves(
    potential: Potential, structures: Sequence[Atoms], labelled: Sequence[Atoms] | None, strains: Sequence[float]
) -> list[dict[str, Any]]:
    """Return energies over strain, relative to none; of labelled frames the labels beside."""
    if labelled is not None:
        frames = list(labelled)
        names = [str(frame.info["start"]) for frame in frames]
        by = [float(frame.info["strain"]) for frame in frames]
    else:
        some = [(name, atoms) for name, atoms in _named(structures) if any(sf.strained_directions(atoms))]
        names = [name for name, _ in some for _ in strains]
        by = [value for _ in some for value in strains]
        frames = [sf.strain(atoms, value) for _, atoms in some for value in strains]
    said, _ = compute_each(potential, frames) if frames else ([], {})
    energy = [label.energy_eV / len(frame) for label, frame in zip(said, frames, strict=True)]
    labels = [np.nan if labelled is None else frame.info[fr.ENERGY] / len(frame) for frame in frames]
    zeros = {name: i for i, (name, value) in enumerate(zip(names, by, strict=True)) if value == 0}
    return [
        {
            "start": name,
            "strain": value,
            "energy_meV_per_atom": _number((energy[i] - energy[zeros[name]]) * MEV_PER_EV),
            "label_meV_per_atom": _number((labels[i] - labels[zeros[name]]) * MEV_PER_EV),
        }
        for i, (name, value) in enumerate(zip(names, by, strict=True))
    ]


def _number(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""


def _teller(ctx: Context) -> Callable[[int, int, str], None]:
    """Return what tells of progress at every hundredth alone: MD tells it at every kept step."""
    last = -1

    def tell(done: int, total: int, text: str) -> None:
        nonlocal last
        if (now := 100 * done // total) > last:
            last = now
            ctx.progress(done / total, text)

    return tell
