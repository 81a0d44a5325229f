"""Selection keeps the sane, the new and the diverse."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from conftest import cell
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ipip_ext.geometry import closest_approach
from ipip_ext.select import diverse, is_physical

ROWS = arrays(float, st.tuples(st.integers(0, 25), st.just(3)), elements=st.floats(-5, 5))


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, seen=ROWS, most=st.integers(1, 30), tolerance=st.floats(0, 0.5))
def test_chosen_rows_are_few_distinct_and_apart(rows, seen, most, tolerance):
    chosen, near = diverse(rows, most, tolerance, seen)
    assert len(chosen) == len(set(chosen)) <= min(most, len(rows))
    assert 0 <= near <= len(rows) - len(chosen)
    spread = rows.std(axis=0) if len(rows) else np.ones(3)
    scaled = rows / np.where(spread > 1e-12, spread, 1.0)
    for i in chosen:
        for j in chosen:
            assert i == j or np.linalg.norm(scaled[i] - scaled[j]) > tolerance * np.sqrt(3) - 1e-6


def test_farthest_points_cover_the_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
    rows = np.concatenate([c + rng.normal(0, 0.1, (20, 2)) for c in centres])
    chosen, _ = diverse(rows, 4, 0.0)
    assert {i // 20 for i in chosen} == {0, 1, 2, 3}


def test_copies_of_the_old_pool_are_dropped():
    rows = np.random.default_rng(1).normal(size=(10, 4))
    chosen, near = diverse(rows, 10, 0.01, rows[:6])
    assert chosen == [6, 7, 8, 9]
    assert near == 6


def test_unphysical_frames_are_told_apart():
    atoms, forces = cell(1), np.zeros((4, 3))
    assert is_physical(atoms, forces, 0.6, 40) is None
    assert is_physical(atoms, forces + 100, 0.6, 40) == "force"
    assert is_physical(atoms, forces * np.nan, 0.6, 40) == "non_finite"
    close = atoms.copy()
    close.positions[0] = close.positions[1] + 0.5
    assert is_physical(close, forces, 0.6, 40) == "distance"


def test_an_atom_meets_its_own_image():
    assert closest_approach(Atoms("Cu", cell=[1.0, 9, 9], pbc=True), 0.6) < 0.5
    assert closest_approach(Atoms("Cu", cell=[9.0, 9, 9], pbc=True), 0.6) == np.inf
