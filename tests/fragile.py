"""MD that is killed on the way: a potential that dies, and its walk."""

from __future__ import annotations

from pathlib import Path

from ase.build import bulk
from ase.calculators.emt import EMT

from ipip_ext import md
from ipip_ext.potentials.base import FrameFailed
from ipip_ext.recipe.walk import Explore
from ipip_ext.teachers.ase_potential import AsePotential


class Fragile(AsePotential):
    """EMT that fails for the longest cell once its first atom has moved, and is killed at the `dies`-th."""

    batched = True

    def __init__(self, dies=10**9):
        super().__init__(EMT(), "emt")
        self.calls, self.dies = 0, dies

    def compute(self, frames, *, stress=False):
        self.calls += 1
        if self.calls == self.dies:
            raise KeyboardInterrupt
        for index, atoms in enumerate(frames):
            if len(atoms) == 12 and abs(atoms.positions[0]).max() > 0.12:
                raise FrameFailed(index, "moved too far")
        return super().compute(frames, stress=stress)


def starts():
    return [bulk(element, cubic=True).repeat((n, 1, 1)) for element, n in (("Cu", 1), ("Al", 2), ("Cu", 3))]


def explore(ensemble="nvt_langevin"):
    return Explore(
        starts=Path("unused"), ensemble=ensemble, temperatures_K=(900.0,), n_steps=30, frame_every=3,
        timestep_fs=3.0, replicas=2, max_batch_replicas=4,
    )  # fmt: skip


def walk(folder, potential=None, progress=lambda *_: None, ensemble="nvt_langevin"):
    settings = explore(ensemble)
    replicas = md.plan_replicas(starts(), settings, 11, "it00")
    return md.run(potential or Fragile(), replicas, settings, folder, progress)
