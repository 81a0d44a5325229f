"""Frames as a training takes them, and what of a batch a loss needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ase import Atoms

from ipip_ext.backends.loss import Labels
from ipip_ext.backends.network import Network
from ipip_ext.data import frames as fr
from ipip_ext.data.keys import LABEL_WEIGHTS
from ipip_ext.data.weights import label_weight, own_weight
from ipip_ext.recipe.training import Fit


@dataclass(frozen=True)
class Sample:
    """One frame ready to be trained on.

    graph: as its network takes it. energy_eV: less the network's zeros. forces_eV_per_A: (n_atoms, 3).
    stress_eV_per_A3: (3, 3) or None. weight: of the frame in the loss. energy: whether its energy counts; its stress
    counts no more than that. label_weights: what its energy, forces and stress count for besides.
    """

    graph: Any
    energy_eV: float
    forces_eV_per_A: torch.Tensor
    stress_eV_per_A3: torch.Tensor | None
    weight: float
    energy: bool
    frame_id: str
    label_weights: Mapping[str, float]

    @classmethod
    def of(cls, frame: Atoms, network: Network, *, weight: float = 1.0, energy: bool = True) -> Sample:
        """Return labelled `frame` as `network` takes it. weight: times the frame's own. Raises what its graph does."""
        labels = fr.labels_of(frame)
        stress = labels.stress_eV_per_A3
        return cls(
            graph=network.graph(frame),
            energy_eV=labels.energy_eV - network.energy_zero(frame),  # in double: the total may be beyond the dtype
            forces_eV_per_A=torch.as_tensor(labels.forces_eV_per_A).to(network.dtype),
            stress_eV_per_A3=None if stress is None else torch.as_tensor(stress).to(network.dtype),
            weight=weight * own_weight(frame),
            energy=energy,
            frame_id=str(frame.info.get(fr.ID, "?")),
            label_weights={label: label_weight(frame, label) for label in LABEL_WEIGHTS},
        )

    def counts(self, label: str) -> float:
        """Return what one of its labels counts for in the loss, whether or not it is there."""
        return self.weight * self.label_weights[label]


def labels_of(batch: Sequence[Sample], dtype: torch.dtype, device: str, *, stress: bool) -> Labels:
    """Return the labels of a batch on `device`; with `stress`, its stresses too where a frame has one."""
    sizes = torch.tensor([len(s.forces_eV_per_A) for s in batch], device=device)
    force, energy, stressed = (
        torch.tensor([s.counts(label) for s in batch], dtype=dtype, device=device)
        for label in ("forces", "energy", "stress")
    )
    zero = torch.zeros(3, 3, dtype=dtype)
    with_stress = torch.tensor([s.stress_eV_per_A3 is not None and s.energy for s in batch])
    return Labels(
        energy_eV=torch.tensor([s.energy_eV for s in batch], dtype=dtype, device=device),
        forces_eV_per_A=torch.cat([s.forces_eV_per_A for s in batch]).to(device),
        n_atoms=sizes.to(dtype),
        atom_weight=torch.repeat_interleave(force, sizes).unsqueeze(1),
        energy_weight=energy * torch.tensor([s.energy for s in batch], dtype=dtype, device=device),
        stress_weight=stressed * with_stress.to(dtype).to(device),
        stress=(
            torch.stack([zero if s.stress_eV_per_A3 is None else s.stress_eV_per_A3 for s in batch]).to(device)
            if stress and bool(with_stress.any())
            else None
        ),
    )


def scaled(settings: Fit, part: Sequence[Sample], batch: Sequence[Sample]) -> Fit:
    """Return settings with which the losses of a batch's parts, each of means, add up to the batch's own."""
    shares = [own / max(1, of_all) for own, of_all in zip(_counts(part), _counts(batch), strict=True)]
    names = ("force_weight", "energy_weight", "stress_weight")
    return settings.model_copy(update={n: getattr(settings, n) * share for n, share in zip(names, shares, strict=True)})


def _counts(samples: Sequence[Sample]) -> tuple[int, int, int]:
    """Return how many atoms, energies and stresses the means of `huber_loss` are over."""
    energies = [s for s in samples if s.energy and s.counts("energy") > 0]
    stresses = [s for s in samples if s.energy and s.stress_eV_per_A3 is not None and s.counts("stress") > 0]
    return sum(len(s.forces_eV_per_A) for s in samples), len(energies), len(stresses)


def largest(samples: Sequence[Sample]) -> int:
    """Return the number of atoms of the largest frame."""
    return max(len(sample.forces_eV_per_A) for sample in samples)


def chunks(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """Yield samples in their order, `size` at a time."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]
