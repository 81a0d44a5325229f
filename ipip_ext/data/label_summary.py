"""What was read, in a line: what a user looks at before hours of computing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data.invariants import look_at
from ipip_ext.data.label_checks import largest_forces


def summary(frames: Sequence[Atoms]) -> str:
    """Return the ranges of energies and forces and the nearest atoms, with the frames that these are of."""
    energies = np.array([frame.info[fr.ENERGY] / len(frame) for frame in frames if fr.ENERGY in frame.info])
    nearest = np.array([look.nearest_A for look in look_at(frames)])
    said = [f"energies {energies.min():.3f} to {energies.max():.3f} eV/atom"] if len(energies) else ["no energies"]
    said.append(_of_forces(frames))
    if np.isfinite(nearest.min()):
        said.append(f"nearest atoms {nearest.min():.2f} A ({_id(frames[int(nearest.argmin())])})")
    if any(fr.STRESS in frame.info for frame in frames):
        stress = [np.abs(frame.info[fr.STRESS]).max() for frame in frames if fr.STRESS in frame.info]
        said.append(f"stress up to {max(stress):.2g} eV/A^3")
    return "; ".join(said)


def _of_forces(frames: Sequence[Atoms]) -> str:
    forces = [np.linalg.norm(frame.arrays[fr.FORCES], axis=1) for frame in frames if fr.FORCES in frame.arrays]
    if not forces:
        return "no forces"
    largest = int(np.nanargmax(largest_forces(frames)))
    every = np.concatenate(forces)
    return f"|F| up to {every.max():.3g} eV/A ({_id(frames[largest])}), median {np.median(every):.3g}"


def _id(frame: Atoms) -> str:
    return str(frame.info.get(fr.ID, "?"))
