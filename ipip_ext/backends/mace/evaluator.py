"""A MACE module on its device, as batches and sessions ask it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from ipip_ext.backends.capture import can_record
from ipip_ext.backends.mace import convolution, exact, states
from ipip_ext.backends.mace.graphs import Batch, species_index
from ipip_ext.errors import DataError

_MAX_ATOMS = {"cpu": 1_000, "cuda": 20_000}
_CACHED_BYTES = 10e6  # of one number an edge and channel; a batch of more of them costs up to half as much again


class Evaluator:
    """Any MACE module with an energy and forces.

    Batches are cut by atoms, so that memory is bounded whatever the frames' sizes. Energies are in double precision
    whatever the module's dtype. The module is taken over: it is no more for saving.
    zeros_eV: energy zeros of its species, in their order, where they are known better than the module holds them.
    may_record: whether sessions record their steps (`replay`), as they do on a GPU.
    Raises CalculatorError for a module that asks for inputs which are not ours to give.
    """

    def __init__(
        self, module: torch.nn.Module, name: str, device: str, zeros_eV: Sequence[float] | None = None
    ) -> None:  # fmt: skip
        self.name = name
        self.specs = states.specs_of(module, name)
        self.device = device
        self.n_parameters: int | None = sum(p.numel() for p in module.parameters())
        self.module = module.to(device).eval().requires_grad_(False)
        convolution.install(self.module)
        exact.install(self.module, zeros_eV)
        self.dtype = next(module.parameters()).dtype
        self.r_max_A = float(module.r_max)  # type: ignore[arg-type]
        self.index = species_index([int(z) for z in module.atomic_numbers])  # type: ignore[union-attr]
        self.max_atoms = _max_atoms(module) if device == "cpu" else _MAX_ATOMS["cuda"]
        self.may_record = can_record(device)

    def inputs(self, atoms: Atoms) -> dict[str, float]:
        """Return what the model asks for beyond atoms. Raises ValueError for what it can't embed."""
        return states.values(atoms, self.specs)

    def require_known(self, atoms: Atoms) -> None:
        """Raise DataError for an element that the model was not trained on."""
        unknown = sorted(set(atoms.numbers.tolist()) - set(self.index))
        if unknown:
            words = [", ".join(chemical_symbols[z] for z in numbers) for numbers in (unknown, sorted(self.index))]
            raise DataError(f"{self.name} does not know {words[0]}; it was trained on {words[1]}.")

    def forward(self, batch: Batch, stress: bool) -> Batch:
        """Return MACE's output for `batch`, with `exact`'s energies."""
        output: Batch = self.module(batch, training=False, compute_force=True, compute_stress=stress)
        return output

    def parts(self, sizes: Sequence[int]) -> list[range]:
        """Return which frames, of so many atoms each, go into one batch after the other; batches of like size."""
        if not len(sizes):
            return []
        atoms = np.cumsum(sizes)
        n_batches = int(np.ceil(atoms[-1] / self.max_atoms))
        batch = (atoms - np.asarray(sizes) / 2) * n_batches // atoms[-1]  # by where a frame's middle falls
        ends = [*(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sizes)]
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _max_atoms(module: torch.nn.Module) -> int:
    """Return how many atoms make a batch on a CPU: as many as its caches hold."""
    wide, neighbors = 1, 1.0
    for interaction in module.interactions:  # type: ignore[union-attr]
        irreps = getattr(interaction.conv_tp, "irreps_out", None)  # not there in other layouts than e3nn's
        wide = max(wide, 1 if irreps is None else irreps.dim)
        neighbors = max(neighbors, float(interaction.avg_num_neighbors))
    size = next(module.parameters()).element_size()
    return int(np.clip(_CACHED_BYTES / (size * wide * neighbors), 1, _MAX_ATOMS["cpu"]))
