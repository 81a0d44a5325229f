"""A student's or teacher's torch-sim model as our engine drives it."""

from __future__ import annotations

from typing import Any

import torch
import torch_sim as ts
from ase import Atoms

from ipip_ext.md.replicas import Replica
from ipip_ext.potentials.base import Array
from ipip_ext.potentials.cells import spacious
from ipip_ext.potentials.compute import reason


class Model:
    """A torch-sim model with double precision outside, of which a system that can't be evaluated costs itself alone.

    failures: why, by the system's index, of the last evaluation; its numbers are NaN.
    """

    dtype = torch.float64

    def __init__(self, inner: Any) -> None:
        self.inner, self.device = inner, inner.device
        self.failures: dict[int, str] = {}

    def __call__(self, state: Any) -> dict[str, torch.Tensor]:
        """Return energy, forces and, if the model has it, stress of all systems (called by torch-sim)."""
        self.failures = {}
        plain = ts.SimState(
            positions=_near_origin(state).to(self.inner.dtype), cell=state.cell.to(self.inner.dtype), pbc=state.pbc,
            masses=state.masses, atomic_numbers=state.atomic_numbers, system_idx=state.system_idx,
        )  # fmt: skip
        return {key: value.to(self.dtype) for key, value in self._evaluate(plain, 0).items()}

    def _evaluate(self, state: Any, first: int) -> dict[str, torch.Tensor]:
        """Evaluate all systems at once; if that fails, one half after the other. first: index of the first system."""
        try:
            found: dict[str, torch.Tensor] = self.inner(state)
            return found
        except Exception as error:  # noqa: BLE001 - out of memory, say; whatever it is must cost one system, no more
            n_systems = state.n_systems
            if n_systems == 1:
                self.failures[first] = reason(error)
                return self._no_numbers(state)
        middle = n_systems // 2
        halves = [list(range(middle)), list(range(middle, n_systems))]
        outputs = [self._evaluate(state[half], first + half[0]) for half in halves]
        return {key: torch.cat([output[key] for output in outputs]) for key in outputs[0]}

    def _no_numbers(self, state: Any) -> dict[str, torch.Tensor]:
        numbers = {"energy": state.cell[:, 0, 0], "forces": state.positions}
        if self.inner.compute_stress:
            numbers["stress"] = state.cell
        return {key: torch.full_like(values, torch.nan) for key, values in numbers.items()}


def columns(atoms: Atoms) -> Array:
    """Return cell vectors as columns; where they span no volume, some that do, since torch-sim inverts the matrix."""
    return spacious(atoms.cell.array, atoms.pbc).T


def _near_origin(state: Any) -> torch.Tensor:
    """Return positions whose steps in single precision are small: torch-sim wraps along periodic directions alone."""
    if bool(state.pbc.all()):
        wrapped: torch.Tensor = state.positions
        return wrapped
    sums = state.positions.new_zeros(state.n_systems, 3).index_add(0, state.system_idx, state.positions)
    moved: torch.Tensor = state.positions - (sums / state.n_atoms_per_system[:, None])[state.system_idx]
    return moved


def bare(replica: Replica, model: Any) -> Any:
    """Return torch-sim's state of a replica's start, as `model` evaluates it."""
    start = replica.start
    return ts.SimState(
        positions=torch.tensor(start.positions, dtype=model.dtype, device=model.device),
        masses=torch.tensor(start.get_masses(), dtype=model.dtype, device=model.device),
        cell=torch.tensor(columns(start), dtype=model.dtype, device=model.device)[None],
        pbc=torch.tensor(start.pbc, device=model.device),
        atomic_numbers=torch.tensor(start.numbers, device=model.device),
    )
