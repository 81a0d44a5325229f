"""Weighted Huber loss, and the errors that validation reports.

MACE's Huber losses ignore the weight of a frame and know one delta for energies and forces;
replay and labels of mixed quality need the first, and eV against eV/Angstrom the second.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch.nn.functional import huber_loss as _huber

from ipip_ext.recipe.training import Fit
from ipip_ext.units import MEV_PER_EV


@dataclass(frozen=True)
class Labels:
    """Labels of a batch of B frames with N atoms, and what each counts for.

    energy_eV (less the network's zeros), n_atoms, energy_weight, stress_weight: (B,). forces_eV_per_A: (N, 3).
    atom_weight: (N, 1). stress: (B, 3, 3) eV/Angstrom^3 or None.
    """

    energy_eV: torch.Tensor
    forces_eV_per_A: torch.Tensor
    n_atoms: torch.Tensor
    atom_weight: torch.Tensor
    energy_weight: torch.Tensor
    stress_weight: torch.Tensor
    stress: torch.Tensor | None = None


def huber_loss(output: Mapping[str, torch.Tensor], labels: Labels, settings: Fit) -> torch.Tensor:
    """Return the weighted sum of the mean Huber losses of force components and energies per atom."""
    force = _huber(
        output["forces"], labels.forces_eV_per_A, reduction="none", delta=settings.huber_delta_force_eV_per_A
    )
    loss = settings.force_weight * (labels.atom_weight * force).mean()
    delta = settings.huber_delta_energy_eV_per_atom
    if settings.energy_weight > 0:
        energy = _huber(
            output["energy"] / labels.n_atoms,
            labels.energy_eV / labels.n_atoms,
            reduction="none",
            delta=delta,
        )
        loss = loss + settings.energy_weight * _mean(labels.energy_weight, energy)
    if labels.stress is not None:
        stress = _huber(output["stress"], labels.stress, reduction="none", delta=delta).mean(dim=(1, 2))
        loss = loss + settings.stress_weight * _mean(labels.stress_weight, stress)
    return loss


@dataclass
class Totals:
    """Sums over batches, so that validation means are over all components and not over batches.

    Errors are over what counts at all: a label of weight 0 is in none.
    """

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    frames: int = 0
    energies: int = 0
    components: int = 0
    stressed: int = 0

    def add(self, output: Mapping[str, torch.Tensor], labels: Labels, settings: Fit) -> None:
        """Add a batch."""
        n = len(labels.energy_eV)
        force = (output["forces"].detach() - labels.forces_eV_per_A).abs().double()
        energy = ((output["energy"].detach() - labels.energy_eV) / labels.n_atoms).abs().double()
        self.sums["loss"] += float(huber_loss(output, labels, settings).detach()) * n
        atoms, frames = labels.atom_weight > 0, labels.energy_weight > 0
        self.sums["force_mae_meV_per_A"] += float((force * atoms).sum()) * MEV_PER_EV
        self.sums["energy_mae_meV_per_atom"] += float((energy * frames).sum()) * MEV_PER_EV
        self.frames += n
        self.energies += int(frames.sum())
        self.components += 3 * int(atoms.sum())
        if labels.stress is not None:
            stress, cells = (output["stress"].detach() - labels.stress).abs().double(), labels.stress_weight > 0
            self.sums["stress_mae_meV_per_A3"] += float((stress * cells[:, None, None]).sum()) * MEV_PER_EV
            self.stressed += 9 * int(cells.sum())

    def metrics(self) -> dict[str, float]:
        """Return means over everything added."""
        per = {
            "loss": self.frames,
            "force_mae_meV_per_A": self.components,
            "energy_mae_meV_per_atom": self.energies,
            "stress_mae_meV_per_A3": self.stressed,
        }
        return {key: value / max(1, per[key]) for key, value in self.sums.items()}


def _mean(weight: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean over the frames that have a label; 0 where none has."""
    return (weight * loss).sum() / (weight > 0).sum().clamp(min=1)
