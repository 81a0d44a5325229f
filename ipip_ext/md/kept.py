"""Kept frames, one by one and as the arrays of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.data.keys import ID
from ipip_ext.md.replicas import Replica
from ipip_ext.potentials.base import Array
from ipip_ext.potentials.charge import state_of
from ipip_ext.recipe.walk import Explore

_ROWS, _MATRICES = ("positions", "forces"), ("cell", "stress")
_NUMBERS = ("replica", "md_step", "energy_eV", "kinetic_temperature_K")


@dataclass(frozen=True)
class Kept:
    """A kept frame. replica: its number in the plan. positions A, forces eV/A: (n_atoms, 3).

    cell A, stress eV/A^3: (3, 3); stress is None where the ensemble needs none.
    """

    replica: int
    md_step: int
    energy_eV: float
    kinetic_temperature_K: float
    positions: Array
    forces: Array
    cell: Array
    stress: Array | None

    def copy(self) -> Kept:
        """Return the frame with arrays of its own."""
        stress = None if self.stress is None else self.stress.copy()
        return replace(
            self, positions=self.positions.copy(), forces=self.forces.copy(), cell=self.cell.copy(), stress=stress
        )


def bytes_of(n_atoms: int) -> int:
    """Return the bytes of a kept frame, at most."""
    return 8 * (6 * n_atoms + 9 + 9 + len(_NUMBERS))


def name_of(kept: Kept, replica: Replica) -> str:
    """Return the frame's id, such as `it01-md03-000450`."""
    return f"{replica.id}-{kept.md_step:06d}"


def flat(frames: Sequence[Kept]) -> dict[str, Any]:
    """Return frames as arrays; all or none have a stress."""
    if not frames:
        return {}
    arrays = {name: np.array([getattr(frame, name) for frame in frames]) for name in _NUMBERS}
    arrays |= {name: np.concatenate([getattr(frame, name) for frame in frames]) for name in _ROWS}
    with_stress = frames[0].stress is not None
    names = _MATRICES if with_stress else _MATRICES[:1]
    return arrays | {name: np.array([getattr(frame, name) for frame in frames]) for name in names}


def unflat(arrays: Mapping[str, Any], replicas: Sequence[Replica]) -> Iterator[Kept]:
    """Yield the frames that `flat` made arrays of. replicas: all of the plan."""
    if not arrays:
        return
    ends = np.cumsum([len(replicas[int(number)].start) for number in arrays["replica"]])[:-1]
    positions, forces = (np.split(arrays[name], ends) for name in _ROWS)
    for index, number in enumerate(arrays["replica"]):
        yield Kept(
            int(number), int(arrays["md_step"][index]), float(arrays["energy_eV"][index]),
            float(arrays["kinetic_temperature_K"][index]), positions[index], forces[index], arrays["cell"][index],
            arrays["stress"][index] if "stress" in arrays else None,
        )  # fmt: skip


def as_atoms(kept: Kept, replica: Replica, settings: Explore) -> Atoms:
    """Return a frame as Atoms, with provenance and its MD_* labels."""
    frame = Atoms(replica.start.numbers, positions=kept.positions, cell=kept.cell, pbc=replica.start.pbc)
    frame.info = {
        ID: name_of(kept, replica),
        "start": replica.start_name,
        "temperature_K": replica.target_temperature(kept.md_step, settings.n_steps),
        "md_step": kept.md_step,
        "md_time_fs": kept.md_step * settings.timestep_fs,
        "replica": replica.id,
        "MD_energy": kept.energy_eV,
        "MD_kinetic_temperature_K": kept.kinetic_temperature_K,
        **state_of(replica.start),
    }
    frame.set_array("MD_forces", kept.forces)
    if kept.stress is not None:
        frame.info["MD_stress"] = kept.stress
    return frame
