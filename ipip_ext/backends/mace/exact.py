"""Energies in double precision around a network in single.

A total of -535 650 eV an atom, which an all-electron code gives, has steps of 0.06 eV in float32, and sums over ten
thousand atoms have steps too. So energy zeros never enter the network, and what it says of each atom, a few eV, is
summed outside of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ipip_ext.backends.mace._mace import modules

_SUMS = (modules.MACE, modules.ScaleShiftMACE)
"""Kinds of MACE whose energy is a sum over atoms and nothing more."""


def install(module: torch.nn.Module, zeros_eV: Sequence[float] | None = None) -> None:
    """Let `module`, whatever its dtype, give `energy` (n_frames,) and `node_energy` (n_atoms,) in double, with zeros.

    zeros_eV: of its species, in their order; None for those that it has. Its own become 0: it is no more for saving.
    `node_energy` is None for a kind of MACE whose energy is more than its atoms'.
    """
    own = module.get_buffer("atomic_energies_fn.atomic_energies")
    given = own.tolist() if zeros_eV is None else zeros_eV
    zeros = torch.tensor(given, dtype=torch.float64, device=own.device).flatten()
    own.zero_()
    module.register_forward_hook(_Exact(zeros))


class _Exact:
    """A forward hook."""

    def __init__(self, zeros_eV: torch.Tensor) -> None:
        self.zeros_eV = zeros_eV

    def __call__(self, module: Any, given: tuple[Any, ...], output: Mapping[str, Any]) -> dict[str, Any]:
        batch = given[0]
        species = batch["node_attrs"].double()
        below = _summed(species, batch) @ self.zeros_eV  # whole numbers: their sum is exact in any order
        if type(module) not in _SUMS:
            return {
                **output,
                "energy": output["energy"].detach().double() + below,
                "node_energy": None,
            }
        atoms = output["node_energy"].detach().double()
        if hasattr(module, "embedding_readout"):
            atoms = atoms + _embedded(module, batch).detach().double()
        return {**output, "energy": _summed(atoms, batch) + below, "node_energy": atoms + species @ self.zeros_eV}


def _summed(values: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return sums over the atoms of each frame."""
    return values.new_zeros(len(batch["ptr"]) - 1, *values.shape[1:]).index_add(0, batch["batch"], values)


def _embedded(module: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return each atom's energy by charge and spin alone, (n_atoms,), which MACE counts in the total only."""
    features = {name: batch[name] for name in module.embedding_specs}
    nodes = module.node_embedding(batch["node_attrs"]) + module.joint_embedding(batch["batch"], features)
    energies: torch.Tensor = module.embedding_readout(nodes, batch["head"][batch["batch"]]).flatten()
    return energies
