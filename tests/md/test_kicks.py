"""Rattled and kicked starts: other places, no atoms on top of each other, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.constraints import FixAtoms

from ipip_ext.data.geometry import closest_approach
from ipip_ext.md import plan_replicas
from ipip_ext.md.kicks import CLOSEST, filled_directions, strained
from ipip_ext.recipe.walk import Explore

STARTS = ase.io.read(Path(__file__).parents[2] / "recipes/data/mo_s_o/starts.extxyz", index=":")


def explore(**changes: object) -> Explore:
    return Explore(starts=Path("unused"), temperatures_K=(300.0, 900.0), **changes)


def moved(replica) -> np.ndarray:
    """How far each atom is from where it stands in the start, over periodic borders."""
    start = next(s for s in STARTS if s.info["name"] == replica.start_name)
    shift = replica.start.positions - start.positions
    return np.linalg.norm(shift, axis=1)


def test_kicks_move_their_share_of_atoms_and_leave_the_others():
    replicas = plan_replicas(STARTS, explore(kick_fraction=0.2, kick_A=2.0, replicas=9), 1, "it00")
    disturbed = [r for number, r in enumerate(replicas) if number % 9]
    distances = np.concatenate([moved(replica) for replica in disturbed])
    assert 0.1 < np.mean(distances > 0) < 0.2  # some kicks fit nowhere
    assert 1.5 < distances.max() <= 2.0
    assert all(moved(replica).max() == 0 for number, replica in enumerate(replicas) if number % 9 == 0)


def test_rattling_moves_all_atoms_by_its_spread():
    replicas = plan_replicas(STARTS, explore(rattle_A=0.1), 1, "it00")
    shifts = np.concatenate([moved(replica) for replica in replicas])
    assert np.all(shifts > 0)
    assert np.sqrt(np.mean(shifts**2) / 3) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("how", [{"kick_fraction": 0.5, "kick_A": 4.0}, {"rattle_A": 0.8}])
def test_no_push_brings_atoms_together(how):
    for replica in plan_replicas(STARTS, explore(**how), 3, "it00"):
        assert closest_approach(replica.start, CLOSEST - 1e-9) == np.inf


def test_the_same_seed_pushes_alike_whoever_walks_beside():
    how = explore(kick_fraction=0.3, rattle_A=0.05)
    one, again, other = (plan_replicas(STARTS, how, seed, "it00") for seed in (1, 1, 2))
    alone = plan_replicas(STARTS[:1], how, 1, "it00")
    for a, b, c in zip(one, again, other, strict=True):
        assert np.array_equal(a.start.positions, b.start.positions)
        assert not np.array_equal(a.start.positions, c.start.positions)
    assert np.array_equal(alone[0].start.positions, one[0].start.positions)
    assert not np.array_equal(one[0].start.positions, one[1].start.positions)  # each replica its own way


def test_fixed_atoms_stay_and_a_lone_atom_is_no_trouble():
    held = STARTS[0].copy()
    held.set_constraint(FixAtoms([0, 1, 2]))
    lone = Atoms("O", cell=[9, 9, 9], pbc=True)
    how = explore(kick_fraction=0.9, rattle_A=0.2)
    replicas = plan_replicas([held, lone], how, 0, "it00")
    for replica in replicas[:2]:
        assert np.array_equal(replica.start.positions[:3], held.positions[:3])
        assert not np.array_equal(replica.start.positions[3:], held.positions[3:])
        assert replica.start.constraints
    assert len(replicas[2].start) == 1


def strain_of(replica) -> np.ndarray:
    """The strain that made a replica's cell of its start's."""
    start = next(s for s in STARTS if s.info["name"] == replica.start_name)
    return np.linalg.solve(start.cell.array, replica.start.cell.array) - np.eye(3)


def test_strain_is_symmetric_random_and_leaves_vacuum_alone():
    replicas = plan_replicas(STARTS, explore(strain=0.02, replicas=11), 1, "it00")  # slabs, with their vacuum along z
    strains = np.array([strain_of(r) for number, r in enumerate(replicas) if number % 11])
    assert len(strains) == 200
    assert np.allclose(strains, strains.transpose(0, 2, 1), atol=1e-12)
    assert np.abs(strains[:, 2, :]).max() < 1e-12
    for i, j, spread in ((0, 0, 0.02), (1, 1, 0.02), (0, 1, 0.02 / np.sqrt(2))):
        assert np.std(strains[:, i, j]) == pytest.approx(spread, rel=0.2)
    first = replicas[1]
    start = STARTS[0]
    assert np.allclose(first.start.get_scaled_positions(wrap=False), start.get_scaled_positions(wrap=False))
    assert np.array_equal(replicas[0].start.cell.array, start.cell.array)


def test_strain_goes_where_matter_goes_on():
    crystal, wire = bulk("Cu"), bulk("Cu", cubic=True)
    wire.pbc = (False, False, True)
    molecule = Atoms("OH", [[0, 0, 0], [1, 0, 0]], cell=[9, 9, 9], pbc=True)
    tilted = fcc111("Cu", (2, 2, 3), vacuum=6.0, orthogonal=False)
    tilted.pbc = True
    tilted.rotate(40, (1, 2, 3), rotate_cell=True)
    assert [filled_directions(atoms) for atoms in (crystal, wire, molecule, tilted)] == [[0, 1, 2], [2], [], [0, 1]]
    draw = np.random.default_rng
    assert not np.isclose(strained(crystal, 0.05, draw(0)).get_volume(), crystal.get_volume())
    assert np.array_equal(strained(molecule, 0.05, draw(0)).cell, molecule.cell)
    pulled = strained(wire, 0.05, draw(0))
    assert np.allclose((pulled.cell.array - wire.cell.array)[:2], 0)
    assert not np.isclose(pulled.cell[2, 2], wire.cell[2, 2])
    normal = np.cross(tilted.cell[0], tilted.cell[1])
    heights = [atoms.positions @ normal for atoms in (tilted, strained(tilted, 0.05, draw(0)))]
    assert np.allclose(*heights)
    assert np.allclose(tilted.cell[2] @ normal, strained(tilted, 0.05, draw(0)).cell[2] @ normal)
