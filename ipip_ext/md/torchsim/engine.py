"""torch-sim's integrators, evaluation of the model, and estimate of a GPU's memory, as an engine of MD."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile

import numpy as np
from torch_sim.autobatching import calculate_memory_scalers, estimate_max_memory_scaler

from ipip_ext.md.integrators import Integrator
from ipip_ext.md.replicas import Replica
from ipip_ext.md.stacked import Stack
from ipip_ext.md.torchsim.dynamics import Dynamics
from ipip_ext.md.torchsim.model import Model, bare
from ipip_ext.potentials.base import HasTorchSim
from ipip_ext.recipe.walk import Explore


class TorchSimEngine:
    """torch-sim's integrators (an `engines.Engine`). A batch is of like boundary conditions, as torch-sim has it."""

    def __init__(self, potential: HasTorchSim, replicas: Sequence[Replica], settings: Explore) -> None:
        self.replicas, self.settings = replicas, settings
        self.model = Model(potential.torchsim_model(stress=settings.ensemble == "npt"))

    def room(self, walking: Sequence[Replica], waiting: Sequence[Replica]) -> int:
        """Return how many of `waiting` may join those `walking`: as many as a GPU's memory has room for."""
        alike = [each.start.pbc.tolist() for each in (*walking[:1], *waiting)][:1]
        fit = list(takewhile(lambda replica: [replica.start.pbc.tolist()] == alike, waiting))
        if self.model.device.type == "cpu":
            return min(len(fit), max(0, self.settings.max_batch_replicas - len(walking)))
        taken = np.cumsum([sum(self._memory[r.id] for r in walking), *(self._memory[r.id] for r in fit)])[1:]
        n_fit = int(np.count_nonzero(taken <= self._all_memory))
        return n_fit if walking else max(n_fit, min(len(fit), 1))  # one that is too large alone fails as it walks

    @cached_property
    def _memory(self) -> dict[str, float]:
        """What each replica takes of memory, in torch-sim's measure for this model."""
        scale = self.model.inner.memory_scales_with
        return {r.id: calculate_memory_scalers(bare(r, self.model.inner), scale)[0] for r in self.replicas}

    @cached_property
    def _all_memory(self) -> float:
        """How much a batch may take, by trial evaluations of the smallest and the largest replica."""
        states = [bare(replica, self.model.inner) for replica in self.replicas]
        enough = 2 * sum(len(replica.start) for replica in self.replicas)
        with contextlib.redirect_stdout(io.StringIO()):
            return float(
                estimate_max_memory_scaler(states, self.model.inner, list(self._memory.values()), max_atoms=enough)
            )

    def dynamics(self, stack: Stack) -> Integrator:
        """Return the integrator of the recipe's ensemble for all replicas of `stack`."""
        return Dynamics(self.model, stack, self.settings)
