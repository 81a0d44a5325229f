"""What can be trained: anything that gives energies and forces of graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from ase import Atoms

from ipip_ext.backends.base import Model


class Network(Protocol):
    """What a Trainer trains: a module that is its own to change, already on its device."""

    module: torch.nn.Module
    dtype: torch.dtype
    device: str

    def graph(self, frame: Atoms) -> Any:
        """Return `frame` as the network takes it; made once, before the first epoch."""
        ...

    def energy_zero(self, frame: Atoms) -> float:
        """Return the energy of `frame`'s atoms, eV, that `evaluate` leaves out so that the rest suits the dtype."""
        ...

    def evaluate(self, graphs: Sequence[Any], *, training: bool, stress: bool) -> Mapping[str, torch.Tensor]:
        """Return energy less zeros (B,) eV, forces (N, 3) eV/Angstrom and, if asked, stress (B, 3, 3) eV/Angstrom^3.

        training: so that they can be differentiated by the module's parameters.
        """
        ...

    def finished(self, weights: Mapping[str, torch.Tensor]) -> Model:
        """Return a model with these weights; the module has served."""
        ...
