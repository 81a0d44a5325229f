"""Neighbours are found whatever the cell is like, at a cost that knows the atoms alone."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

from ipip_ext.data import geometry


@pytest.mark.parametrize("seed", range(12))
def test_both_searches_find_what_ase_finds(seed):
    rng = np.random.default_rng(seed)
    n_atoms = int(rng.integers(1, 20))
    cell_A = rng.normal(size=(3, 3)) * 2 + np.diag([4, 5, 6]) * rng.choice([-1, 1], 3)
    atoms = Atoms(f"Cu{n_atoms}", positions=rng.uniform(-8, 8, (n_atoms, 3)), cell=cell_A, pbc=rng.random(3) < 0.6)
    i, j, d = neighbor_list("ijd", atoms, 4.5)
    wanted = sorted(zip(i.tolist(), j.tolist(), np.round(d, 6).tolist(), strict=True))
    for near in (geometry._by_tree(atoms, 4.5), geometry.neighbours(atoms, 4.5)):
        distances = np.round(np.linalg.norm(near.vectors_A, axis=1), 6).tolist()
        found = sorted(zip(near.i.tolist(), near.j.tolist(), distances, strict=True))
        assert [pair[:2] for pair in found] == [pair[:2] for pair in wanted]
        assert [pair[2] for pair in found] == pytest.approx([pair[2] for pair in wanted], abs=2e-6)
        assert (np.diff(near.i) >= 0).all()


@pytest.mark.parametrize("width_A", [20.0, 1e3, 1e6])
@pytest.mark.parametrize("pbc", [False, True, (True, True, False)])
def test_a_box_changes_nothing(width_A, pbc):
    """A million Angstrom would make 1e18 boxes of a search by boxes."""
    alone = molecule("C6H6")
    boxed = molecule("C6H6", cell=[width_A] * 3, pbc=pbc)
    boxed.positions += width_A / 2
    for cutoff_A in (1.2, 5.0):
        found, wanted = (np.sort(geometry.pairs(atoms, cutoff_A).distances_A) for atoms in (boxed, alone))
        assert found == pytest.approx(wanted, abs=1e-9 * width_A)
    assert geometry.closest_approach(boxed, 2.0) == pytest.approx(geometry.closest_approach(alone, 2.0), abs=1e-6)


def test_pieces_that_flew_apart_and_a_cluster_without_a_cell():
    far = molecule("H2O") + molecule("H2O")
    far.positions[3:] += 3e4
    assert len(geometry.pairs(far, 5.0).i) == 12
    cluster = bulk("Cu", cubic=True).repeat(6)
    cluster.pbc, cluster.cell = False, None
    apart = np.linalg.norm(cluster.positions[:, None] - cluster.positions[None], axis=2)
    assert len(geometry.pairs(cluster, 3.0).i) == np.sum(apart < 3.0) - len(cluster)


def test_atoms_in_one_place_are_a_pair():
    for width_A in (4.0, 1e5):
        atoms = Atoms("Cu3", positions=[[0, 0, 0], [2, 0, 0], [0, 0, width_A]], cell=[width_A] * 3, pbc=True)
        near = geometry.pairs(atoms, 0.05)
        assert sorted(zip(near.i.tolist(), near.j.tolist(), strict=True)) == [(0, 2), (2, 0)]
