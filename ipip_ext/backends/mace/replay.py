"""A batch's evaluation recorded on a GPU, and played again at other positions.

Its shapes are fixed: pairs have more places than there are pairs, and those left over hold one beyond the cut-off,
which adds exact zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ipip_ext.backends.capture import capture
from ipip_ext.backends.mace.graphs import Batch

MOST_ATOMS = 10_000
"""Atoms of a batch that is worth recording: with more of them the kernels take longer than their launching."""

PLAIN_STEPS = 20
"""Steps before a batch is recorded, since that takes as long as some ten of them and batches may be short-lived."""

_SPARE = 1.1


class Places:
    """Pairs with their shifts, and room for more of them."""

    def __init__(self, pairs: torch.Tensor, shifts: torch.Tensor, r_max_A: float) -> None:
        n_places = int(_SPARE * pairs.shape[1]) + 64
        self.r_max_A = r_max_A
        self.pairs = pairs.new_zeros(2, n_places)
        self.shifts = shifts.new_zeros(n_places, 3)
        self.put(pairs, shifts)

    def put(self, pairs: torch.Tensor, shifts: torch.Tensor) -> bool:
        """Take these pairs instead of those before, if there is room for them; return whether there is."""
        n_pairs = pairs.shape[1]
        if n_pairs >= len(self.shifts):  # the last place holds what fills the others, always
            return False
        self.pairs[:, :n_pairs], self.pairs[:, n_pairs:] = pairs, 0
        self.shifts[:n_pairs], self.shifts[n_pairs:] = shifts, 2 * self.r_max_A  # an atom and its image, far away
        return True

    def near(self, positions: torch.Tensor, room: int) -> tuple[Batch, torch.Tensor]:
        """Return the pairs within the cut-off in `room` places, as MACE takes them, and how many they are, (1,)."""
        vectors = positions.index_select(0, self.pairs[1]) - positions.index_select(0, self.pairs[0]) + self.shifts
        inside = (vectors * vectors).sum(dim=1) < self.r_max_A**2
        chosen = torch.nonzero_static(inside, size=room, fill_value=len(self.shifts) - 1)[:, 0]
        moving = {"edge_index": self.pairs.index_select(1, chosen), "shifts": self.shifts.index_select(0, chosen)}
        return {"positions": positions, **moving}, inside.sum().reshape(1)


class Recording:
    """The evaluation of a batch at any positions, from one at which `n_near` pairs are within the cut-off.

    fixed: what of the batch never changes. Raises whatever CUDA says where it can't be recorded.
    """

    def __init__(
        self, evaluate: Callable[[Batch], Batch], fixed: Batch, places: Places, positions: torch.Tensor, n_near: int
    ) -> None:
        self.evaluate, self.fixed, self.places = evaluate, fixed, places
        self.room = int(_SPARE * n_near) + 64
        self.positions = positions.detach().clone()
        self.play, (self.energies, self.forces, self.n_near) = capture(self._step, positions.device)

    def __call__(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return energies, forces, and how many pairs are within the cut-off: if more than `room`, all is wrong.

        They are overwritten by the next call.
        """
        self.positions.copy_(positions.detach())
        self.play()
        return self.energies, self.forces, self.n_near

    def _step(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        moving, n_near = self.places.near(self.positions.detach(), self.room)
        output = self.evaluate({**self.fixed, **moving})
        return output["energy"].detach(), output["forces"].detach(), n_near.to(output["energy"].dtype)
