"""MD of a few atoms: starts, settings, potentials, and what is compared of the walks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from alloy import cell, label
from ase.build import bulk
from ase.calculators.emt import EMT

from ipip_ext import md
from ipip_ext.backends import registry
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe import students
from ipip_ext.recipe.walk import Explore
from ipip_ext.teachers.ase_potential import AsePotential


def copper(n=1, rattle=0.05, seed=0, element="Cu"):
    atoms = bulk(element, cubic=True).repeat((n, 1, 1))
    atoms.rattle(rattle, seed=seed)
    atoms.info["name"] = f"{element}{n}"
    return atoms


def settings(**kwargs):
    defaults = {"starts": Path("unused"), "temperatures_K": (300.0,), "n_steps": 20, "frame_every": 5}
    return Explore(**{**defaults, **kwargs})


def emt():
    return AsePotential(EMT(), "emt")


def walk(folder, starts, explore, potential=None, seed=1, replicas=None):
    replicas = replicas or md.plan_replicas(starts, explore, seed, "it00")
    return md.run(potential or emt(), replicas, explore, folder, lambda *_: None)


def by_replica(frames):
    found = {}
    for frame in frames:
        found.setdefault(frame.info["replica"], []).append(frame)
    return found


def same(one, other):
    assert [f.info for f in one] == [f.info for f in other]
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a.positions, b.positions)
        assert np.array_equal(a.arrays["MD_forces"], b.arrays["MD_forces"])


class Pulls:
    """Free atoms, with something odd from the n-th call for frames whose first atom stands at x > `beyond`."""

    name, n_parameters, batched = "pulls", None, True

    def __init__(self, odd, after=5, beyond=50.0):
        self.odd, self.after, self.beyond, self.calls = odd, after, beyond, 0

    def compute(self, frames, **_options):
        self.calls += 1
        return [self.one(i, atoms) for i, atoms in enumerate(frames)]

    def one(self, index, atoms):
        energy, forces = 0.0, np.zeros((len(atoms), 3))
        if atoms.positions[0, 0] > self.beyond and self.calls > self.after:
            return self.odd(index, energy, forces)
        return Prediction(energy, forces)


def huge_force(index, energy, forces):
    forces[-1, 1] = -61.0
    return Prediction(energy, forces)


class Springs:
    """Each atom tied to its place by a spring; `adrift`: the places move along with all atoms."""

    name, n_parameters, batched, k = "springs", None, True, 2.0

    def __init__(self, places, adrift):
        self.places, self.adrift = places, adrift

    def compute(self, frames, **_options):
        return [self.one(atoms.positions - self.places) for atoms in frames]

    def one(self, away):
        away = away - away.mean(axis=0) if self.adrift else away
        return Prediction(0.5 * self.k * float((away**2).sum()), -self.k * away)


class Counting(AsePotential):
    """Notes how many frames it is asked for at a time."""

    batched = True

    def __init__(self, *args):
        super().__init__(*args)
        self.sizes = []

    def compute(self, frames, *, stress=False):
        self.sizes.append(len(frames))
        return super().compute(frames, stress=stress)


def tiny_mace():
    """Return a MACE in float64 with random weights, as a potential."""
    backend = registry.backend("mace")
    config = students.config_class("mace")(
        hidden_irreps="4x0e+4x1o", max_ell=1, r_max_A=4.0, radial_MLP=(8,), MLP_irreps="4x0e", num_bessel=4,
        dtype="float64",
    )  # fmt: skip
    frames = [label(cell(i)) for i in range(4)]
    return backend.potential(backend.build(config, {"Cu": 0.0, "Al": 0.0}, frames, seed=0), "cpu")


def cells():
    """Return starts of two sizes for it."""
    return [cell(1, 0.01).repeat((2, 1, 1)), cell(2, 0.01), cell(3, 0.01).repeat((1, 1, 2)), cell(4, 0.01)]
