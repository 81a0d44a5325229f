"""Selection keeps the sane, the new and the diverse, and says why it drops the rest."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloy import cell
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ipip_ext.backends import registry
from ipip_ext.data import frames as fr
from ipip_ext.data import geometry
from ipip_ext.data import select as choose
from ipip_ext.data.filters import REASONS, Filters
from ipip_ext.data.geometry import closest_approach
from ipip_ext.data.select import diverse
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe import students
from ipip_ext.recipe.labels import Select
from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.inputs import Student
from ipip_ext.stages.pool import select

DATA = Path(__file__).parents[2] / "recipes" / "data" / "mo_s_o"
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


def test_distances_a_block_at_a_time_choose_the_same(monkeypatch):
    rng = np.random.default_rng(2)
    rows, seen = rng.normal(size=(301, 24)), rng.normal(size=(203, 24))
    chosen, nearest = diverse(rows, 40, 0.3, seen), choose._distance_to(rows, seen)
    square = (rows**2).sum(axis=1)[:, None] + (seen**2).sum(axis=1)[None, :] - 2 * rows @ seen.T
    assert np.array_equal(nearest, np.sqrt(square).min(axis=1))
    monkeypatch.setattr(choose, "_AT_ONCE", 5000)
    assert np.array_equal(choose._distance_to(rows, seen), nearest)
    assert diverse(rows, 40, 0.3, seen) == chosen


def test_an_atom_meets_its_own_image():
    assert closest_approach(Atoms("Cu", cell=[1.0, 9, 9], pbc=True), 0.6) < 0.5
    assert closest_approach(Atoms("Cu", cell=[9.0, 9, 9], pbc=True), 0.6) == np.inf
    assert closest_approach(Atoms("Cu", cell=[9.0, 9, 9], pbc=True), 1e-6) == np.inf  # boxes so wide would fill memory


def reason(frame: Atoms, trusted: list[Atoms], **keys: object) -> str | None:
    return Filters(Select(**keys), trusted).reason(frame, np.zeros((len(frame), 3)))


def moved(atoms: Atoms, rows: object, by_A: object) -> Atoms:
    atoms = atoms.copy()
    atoms.positions[rows] += by_A
    return atoms


def oxidised_slab() -> Atoms:
    """Return Cu(111) in a vacuum of 20 Angstrom with an O2 that stands on it: the last two atoms."""
    slab = fcc111("Cu", (2, 2, 3), vacuum=10.0, periodic=True)
    add_adsorbate(slab, Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.24]]), 1.9, "fcc")
    return slab


def stretched(atoms: Atoms, factor: float) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell * factor, scale_atoms=True)
    return atoms


def test_broken_numbers_wild_forces_and_close_atoms_are_told_apart():
    atoms, forces = cell(1), np.zeros((4, 3))
    filters = Filters(Select(), [cell(1, 0.0)])
    assert filters.reason(atoms, forces) is None
    assert filters.reason(atoms, forces + 100) == "force"
    assert filters.reason(atoms, forces * np.nan) == "non_finite"
    assert filters.reason(moved(atoms, 0, np.nan), forces) == "non_finite"
    assert filters.reason(moved(atoms, 0, atoms.positions[1] - atoms.positions[0] + 0.5), forces) == "distance"


@pytest.fixture(scope="module")
def mo_s_o() -> tuple[list[Atoms], list[Atoms]]:
    return ase.io.read(DATA / "starts.extxyz", ":"), ase.io.read(DATA / "train.extxyz", ":")


def test_no_trusted_frame_is_dropped_even_without_a_margin(mo_s_o):
    trusted = [frame for frames in mo_s_o for frame in frames]
    tight = Filters(Select(max_gap_A=2.9, max_coordination_factor=1, density_factor=1), trusted)
    assert {tight.reason(frame, np.zeros((len(frame), 3))) for frame in trusted} == {None}


def test_by_default_starts_alone_vouch_for_every_reference_frame(mo_s_o):
    starts, train = mo_s_o
    filters = Filters(Select(), starts)
    assert {filters.reason(frame, np.zeros((len(frame), 3))) for frame in train} == {None}


@pytest.mark.parametrize("rows", [[-1], [-2, -1]], ids=["an atom", "a molecule"])
def test_what_has_left_a_slab_is_evaporated(rows):
    slab = oxidised_slab()
    gone = moved(slab, rows, [0, 0, 7.0])
    assert reason(moved(slab, rows, [0, 0, 2.0]), [slab]) is None
    assert reason(gone, [slab]) == "evaporated"
    assert reason(gone, [slab], max_gap_A=None) is None
    assert reason(gone, [slab], max_gap_A=9.5) is None


def test_what_has_left_is_kept_where_trusted_frames_of_its_formula_show_it():
    slab = oxidised_slab()
    gone = moved(slab, [-2, -1], [0, 0, 7.0])
    assert reason(moved(gone, -1, [0.1, 0, 0]), [slab, gone]) is None
    assert reason(moved(gone, -1, [0, 0, -7.0]), [slab, gone]) is None
    other = Atoms("H2", positions=[[0, 0, 0], [0, 0, 9.0]])
    assert reason(gone, [slab, other]) == "evaporated"


def test_what_reaches_the_slab_above_has_not_left():
    slab = oxidised_slab()
    slab.center(4.5, axis=2)
    assert reason(moved(slab, [-2, -1], [0, 0, 5.0]), [slab]) is None


def test_parts_of_a_molecule_without_a_cell_are_counted():
    water = molecule("H2O")
    pair = water + moved(water, slice(None), [0, 0, 3.0])
    assert reason(moved(pair, slice(3, None), [0, 0, 2.0]), [pair]) is None
    assert reason(moved(pair, slice(3, None), [0, 0, 5.0]), [pair]) == "evaporated"


def test_a_lone_atom_is_no_trouble():
    for atom in (Atoms("O"), Atoms("O", cell=[20, 20, 20], pbc=True), Atoms("Cu", cell=[2.5, 2.5, 2.5], pbc=True)):
        assert reason(moved(atom, 0, 0.3), [atom], density_factor=1.001) is None
    assert reason(Atoms("O"), [bulk("Cu"), molecule("H2O")]) == "density"
    assert reason(Atoms("O"), [bulk("Cu"), molecule("H2O")], density_factor=None) is None


def methane_pair(bonds: int) -> Atoms:
    """Return two carbons, 5 Angstrom apart, and eight hydrogens: `bonds` on the first carbon, the rest on the other."""
    turn, up = np.arange(8) * 2 * np.pi / 8, np.tile([0.4, -0.4], 4)
    ring = 1.1 * np.stack([np.cos(turn) * np.sqrt(1 - up**2), np.sin(turn) * np.sqrt(1 - up**2), up], axis=1)
    second = ring[bonds:] + np.array([5.0, 0, 0])
    return Atoms("C2H8", positions=[[0, 0, 0], [5.0, 0, 0], *ring[:bonds], *second])


def test_an_atom_with_far_more_bonds_than_any_trusted_one_is_dropped():
    normal = methane_pair(4)
    near = geometry.pairs(normal, geometry.longest_bond(normal))
    assert list(geometry.coordination_numbers(normal, near)[:2]) == [4, 4]
    assert reason(methane_pair(6), [normal]) is None
    assert reason(methane_pair(7), [normal]) == "coordination"
    assert reason(methane_pair(7), [normal, methane_pair(5)]) is None
    assert reason(methane_pair(7), [normal], max_coordination_factor=2) is None
    assert reason(methane_pair(7), [normal], max_coordination_factor=None) is None


@pytest.mark.parametrize("start", [bulk("Cu", cubic=True), bulk("Cu"), oxidised_slab(), molecule("C6H6", vacuum=8.0)])
def test_what_is_blown_up_or_collapsed_is_dropped(start):
    keys = {"max_gap_A": None, "max_coordination_factor": None, "min_distance_factor": 0.3}
    assert reason(stretched(start, 1.05), [start], **keys) is None
    assert reason(stretched(start, 0.95), [start], **keys) is None
    assert reason(stretched(start, 1.6), [start], **keys) == "density"
    assert reason(stretched(start, 0.6), [start], **keys) == "density"
    assert reason(stretched(start, 1.6), [start], **keys, density_factor=None) is None
    assert reason(stretched(start, 1.6), [start, stretched(start, 1.5)], **keys) is None


def density(atoms: Atoms) -> float:
    return geometry.density(len(atoms), geometry.pairs(atoms, geometry.DENSITY_RADIUS_A))


def test_density_is_that_of_a_crystal_and_knows_no_vacuum():
    assert density(bulk("Cu")) == pytest.approx(4 / bulk("Cu", cubic=True).get_volume(), rel=0.1)
    assert density(bulk("Cu")) == pytest.approx(density(bulk("Cu", cubic=True).repeat((3, 2, 2))))
    slab = oxidised_slab()
    thin = slab.copy()
    thin.center(3.0, axis=2)
    assert density(thin) == pytest.approx(density(slab), rel=1e-9)
    free = molecule("C6H6")
    assert density(free) == pytest.approx(density(molecule("C6H6", vacuum=6.0)))


def test_cells_smaller_than_the_cut_off_have_the_bonds_of_the_crystal():
    small = bulk("Cu")
    near = geometry.pairs(small, 6.0)
    assert list(geometry.coordination_numbers(small, near)) == [12]
    assert geometry.n_fragments(1, near, 6.0) == 1
    chain = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 8.0]], cell=[2.5, 2.5, 16.0], pbc=True)
    assert geometry.n_fragments(2, geometry.pairs(chain, 7.0), 7.0) == 2
    assert geometry.n_fragments(2, geometry.pairs(chain, 8.5), 8.5) == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), amplitude_A=st.floats(0.05, 0.9), shift_A=st.floats(-9, 9))
def test_neither_the_order_of_atoms_nor_of_trusted_frames_nor_the_origin_matters(mo_s_o, seed, amplitude_A, shift_A):
    starts, train = mo_s_o
    trusted, rng = [*starts, *train[::10]], np.random.default_rng(seed)
    frame = starts[seed % len(starts)].copy()
    frame.rattle(amplitude_A, rng=rng)
    twin = frame[rng.permutation(len(frame))]
    twin.positions += shift_A
    twin.wrap()
    assert reason(frame, trusted) == reason(twin, [trusted[i] for i in rng.permutation(len(trusted))])


def forced(atoms: Atoms, force_eV_per_A: float = 0.0) -> Atoms:
    return fr.labelled(atoms, Prediction(0.0, np.full((len(atoms), 3), force_eV_per_A)), "student")


def test_the_stage_counts_every_reason_and_says_so(tmp_path, alloy_data):
    backend, small = registry.backend("mace"), students.config_class("mace")(hidden_irreps="4x0e", MLP_irreps="4x0e")
    train = fr.read_labelled(alloy_data / "train.extxyz")
    backend.save(backend.build(small, {"Cu": 0.0, "Al": 0.0}, train, seed=0), tmp_path / "model")
    start = cell(0).repeat((2, 1, 1))
    roomy = start.copy()
    roomy.cell[0] *= 3
    walked = [
        forced(start, np.nan), forced(start, 50.0),
        forced(moved(start, 0, start.positions[1] - start.positions[0] + 0.5)), forced(moved(roomy, 0, [-8.0, 0, 0])),
        forced(stretched(start, 0.75)), forced(stretched(start, 1.4)), forced(start),
        *(forced(cell(0, amplitude_A).repeat((2, 1, 1))) for amplitude_A in (0.05, 0.15, 0.2)),
    ]  # fmt: skip
    fr.write_frames(tmp_path / "walked.extxyz", walked)
    fr.write_frames(tmp_path / "starts.extxyz", [start])
    events: list[Event] = []
    done = Workspace(tmp_path / "run", EventBus([events.append])).do(
        select, Select(max_frames=2, min_distance_factor=0.5), student=Student("mace", tmp_path / "model"),
        frames=tmp_path / "walked.extxyz", old=tmp_path / "starts.extxyz",
        trusted=[tmp_path / "starts.extxyz", alloy_data / "train.extxyz"],
    )  # fmt: skip
    assert done.dropped == {**dict.fromkeys(REASONS, 1), "duplicate": 1, "over_max_frames": 1}
    assert done.n_kept == len(fr.read_frames(done.frames)) == 2
    said = {event.name: event.value for event in events if event.kind == "metric"}
    assert said == {"selected_frames": 2, **{f"dropped_{name}": count for name, count in done.dropped.items()}}
    (note,) = [event.name for event in events if event.kind == "note"]
    assert note.startswith("kept 2 of 10 frames; dropped: 1 non_finite, 1 force, 1 distance, 1 evaporated")
