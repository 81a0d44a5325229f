"""Fine-tuning of CHGNet on the task's labels, by the loop that trains students."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from ipip_ext.backends.base import FitData, FitJob, FitResult, lr_factors
from ipip_ext.backends.training import Trainer
from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.data.weights import label_weights
from ipip_ext.errors import CalculatorError, StageFailed
from ipip_ext.potentials.base import FrameFailed
from ipip_ext.recipe.training import Fit
from ipip_ext.teachers.chgnet.potential import ChgnetPotential, bare, has_zeros
from ipip_ext.units import EV_PER_A3_PER_GPA

GROUPS = {
    "readouts": ("mlp.", "readout_norm."),
    "interactions": ("atom_conv_layers.", "bond_conv_layers.", "angle_layers."),
    "embedding": (
        "atom_embedding.", "bond_embedding.", "angle_embedding.", "bond_weights_", "bond_basis_", "angle_basis_",
    ),
}  # fmt: skip
"""Parameter group -> how the names of its parameters begin. In none are energy zeros, which are fitted, and magnetic
moments, which no label is of."""
GROUPS["all"] = tuple(prefix for prefixes in GROUPS.values() for prefix in prefixes)


class ChgnetNetwork:
    """A copy of a CHGNet as `backends.training` takes it. Graphs are made on the CPU, once.

    zeros_eV: (n_elements,) energy of each element, from hydrogen on, which never enters the network.
    """

    dtype = torch.float32

    def __init__(self, potential: ChgnetPotential, *, stress: bool) -> None:
        self.device = potential.device
        self.zeros_eV = potential.zeros_eV.copy()
        self._potential = potential
        self._stress = stress
        self.module: torch.nn.Module = copy.deepcopy(potential.model)

    def graph(self, frame: Atoms) -> Any:
        """Return CHGNet's graph. Raises StageFailed for a frame that has none."""
        try:
            return self._potential.graph(0, frame, self._stress)
        except FrameFailed as error:
            raise StageFailed(f"frame {frame.info.get(fr.ID, '?')}: {error.message}; take it out.") from None

    def energy_zero(self, frame: Atoms) -> float:
        """Return the energy of `frame`'s elements, eV, in double precision."""
        return float(self.zeros_eV[frame.numbers - 1].sum())

    def evaluate(self, graphs: Sequence[Any], *, training: bool, stress: bool) -> Mapping[str, torch.Tensor]:  # noqa: ARG002
        """Return energies of whole cells less those of their elements, forces, and stress in eV/Angstrom^3."""
        with bare(self.module):
            output = self.module([graph.to(self.device) for graph in graphs], task="efs" if stress else "ef")
        sizes = torch.tensor([len(forces) for forces in output["f"]], device=self.device)
        found = {"energy": output["e"] * sizes if self.module.is_intensive else output["e"]}
        found["forces"] = torch.cat(list(output["f"]))
        if stress:
            found["stress"] = torch.stack(list(output["s"])) * EV_PER_A3_PER_GPA
        return found

    def finished(self, weights: Mapping[str, torch.Tensor]) -> Any:
        """Return CHGNet with these weights; the energies of its elements are in double, as `save` writes them."""
        self.module.load_state_dict(weights)
        model: Any = self.module.cpu().eval()
        model.composition_model.fc.weight = torch.nn.Parameter(
            torch.tensor(self.zeros_eV)[None], requires_grad=False
        )  # fmt: skip
        return model


def tune(potential: ChgnetPotential, data: FitData, settings: Fit, job: FitJob) -> FitResult:
    """Train a copy of `potential`'s model, on its device, its energies moved to the zeros of `data.train` first.

    State is kept in `job.folder`, as `Backend.fit` keeps it.
    Raises Diverged, CalculatorError for a model without zeros, StageFailed for a frame without a graph.
    """
    network = ChgnetNetwork(potential, stress=settings.stress_weight > 0)
    _align(network, potential, data.train)
    frozen = dict.fromkeys((name for name, _ in network.module.named_parameters()), 0.0)
    factors = frozen | lr_factors(groups(network.module), settings)
    return Trainer(network, data, settings, job, lr_factors=factors).run()


def save(model: Any, path: Path) -> None:
    """Write what `{chgnet: file}` reads."""
    torch.save({"model": model.as_dict()}, path)


def groups(model: torch.nn.Module) -> dict[str, tuple[str, ...]]:
    """Return the names of the parameters in each of `GROUPS`."""
    names = [name for name, _ in model.named_parameters()]
    return {group: tuple(n for n in names if n.startswith(prefixes)) for group, prefixes in GROUPS.items()}


def _align(network: ChgnetNetwork, potential: ChgnetPotential, frames: Sequence[Atoms]) -> None:
    """Move the energy of each element so that the network has the zeros of labelled `frames`; forces don't change."""
    module: Any = network.module
    if not has_zeros(module):
        raise CalculatorError(f"{potential.name}: has no energy zeros to refit; take one of CHGNet's released models.")
    symbols = sorted(fr.elements(frames))
    wanted = np.array([fr.labels_of(frame).energy_eV for frame in frames])
    said = np.array([told.energy_eV for told in potential.compute(frames)])
    rows = [atomic_numbers[s] - 1 for s in symbols]
    counts = label_weights(frames, "energy")
    network.zeros_eV[rows] += metrics.fit_zeros(fr.composition(frames, symbols), wanted - said, counts)
    with torch.no_grad():
        module.composition_model.fc.weight[0] = torch.as_tensor(network.zeros_eV, dtype=torch.float32)
