"""What the loop asks of anything that gives energies and forces.

A teacher, a reference method and a student are all a `Potential`. MD, labelling and
evaluation speak to this interface alone, so none of them knows which code is behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.errors import StageFailed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Labels of one frame.

    energy_eV: energy of the whole cell, eV.
    forces_eV_per_A: (n_atoms, 3), eV/Angstrom.
    stress_eV_per_A3: (3, 3), eV/Angstrom^3, ASE's sign (tension positive); None if not asked for. Of a slab it is that
    in its plane, by the volume of the cell as it is given, and 0 across.
    energies_eV: (n_atoms,), each atom's share, which add up to the energy; None if the potential tells none.
    home_distances: (n_atoms,), how far each atom is from what was learnt (`home`); None if the potential can't tell.
    """

    energy_eV: float
    forces_eV_per_A: Array
    stress_eV_per_A3: Array | None = None
    energies_eV: Array | None = None
    home_distances: Array | None = None


def shares(energies_eV: Any, energy_eV: float, n_atoms: int) -> Array | None:
    """Return what a calculator calls the energies of atoms, (n_atoms,), eV; None unless they add up to its energy."""
    if np.shape(energies_eV) != (n_atoms,):
        return None
    found = np.array(energies_eV, dtype=float)
    return found if abs(found.sum() - energy_eV) <= 1e-6 * max(n_atoms, abs(energy_eV)) else None


class FrameFailed(StageFailed):
    """One frame of a `compute` can't be labelled; the others may well be.

    index: position of the frame in the call. message: what the calculator said.
    """

    def __init__(self, index: int, message: str) -> None:
        super().__init__(f"frame {index}: {message}")
        self.index = index
        self.message = message


@runtime_checkable
class Potential(Protocol):
    """Energies and forces for many frames at once."""

    name: str
    n_parameters: int | None
    batched: bool
    """Whether one call for N frames is cheaper than N calls."""

    def compute(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Prediction]:
        """Return one `Prediction` a frame, in order; the frames are left as they are.

        May raise FrameFailed to say which frame it can't label.
        """
        ...

    def calculator(self) -> Any:
        """Return the ASE calculator that a user of this potential would run MD with."""
        ...


class Session(Protocol):
    """Frames whose species, cells and boundary conditions stay as they are while their atoms move."""

    def compute(self, positions: Array) -> tuple[Array, Array, dict[int, str]]:
        """Evaluate all frames, their atoms end to end at `positions`, (n_rows, 3) A.

        Returns energies (n_frames,) eV, forces (n_rows, 3) eV/A, and why a frame failed, by index; its numbers
        are NaN. The answer depends on `positions` alone, not on those that were evaluated before.
        """
        ...


@runtime_checkable
class HasSessions(Protocol):
    """A Potential that evaluates the same frames again and again for less than `compute` costs (optional)."""

    def session(self, frames: Sequence[Atoms]) -> Session:
        """Return a session of `frames`. Never raises on account of a frame: `Session.compute` tells of it."""
        ...


@runtime_checkable
class HasTorchSim(Protocol):
    """A Potential that torch-sim can evaluate by itself (optional)."""

    def torchsim_model(self, *, stress: bool) -> Any:
        """Return a `torch_sim.models.interface.ModelInterface` of the same energies and forces, and stress if asked."""
        ...
