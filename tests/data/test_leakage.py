"""No held-out frame, nor a near duplicate of one, is ever trained on, by whatever way it comes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from alloy import cell, label, write_recipe
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell, molecule

from ipip_ext.data import frames as fr
from ipip_ext.data import invariants, leakage
from ipip_ext.data.dataset import load_dataset
from ipip_ext.data.disjoint import repeated
from ipip_ext.data.in_order import InOrder
from ipip_ext.errors import DataError
from ipip_ext.loop import prepare_data
from ipip_ext.recipe.file import load_recipe
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.training import Finetune, Pretrain
from ipip_ext.run.events import EventBus
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.committee import ask, committee
from ipip_ext.stages.inputs import Candidates, Size, Task, Voters
from ipip_ext.stages.train import finetune, pretrain, scratch


def skewed() -> Atoms:
    """A periodic cell that is far from orthogonal, some atoms of it outside."""
    atoms = make_supercell(bulk("NaCl", "rocksalt", a=5.6), [[2, 0, 0], [1, 1, 0], [0, 0, 2]])
    atoms.rattle(0.1, rng=np.random.default_rng(3))
    atoms.positions[2] += atoms.cell[0] - 2 * atoms.cell[1]
    return atoms


def jittered(atoms: Atoms, rms_A: float) -> Atoms:
    moved = np.random.default_rng(7).normal(size=(len(atoms), 3))
    moved -= moved.mean(axis=0)
    atoms = atoms.copy()
    atoms.positions += moved * rms_A / np.sqrt((moved**2).sum(axis=1).mean())
    return atoms


def wrapped(atoms: Atoms) -> Atoms:
    atoms = atoms.copy()
    atoms.wrap()
    return atoms


def shifted(atoms: Atoms) -> Atoms:
    atoms = atoms.copy()
    atoms.positions += [1.3, -0.7, 20.0]
    return wrapped(atoms)


def by_element(atoms: Atoms) -> Atoms:
    return atoms[np.argsort(-atoms.numbers, kind="stable")]


def strained(atoms: Atoms) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell * 1.01, scale_atoms=True)
    return atoms


@pytest.mark.parametrize("change", [Atoms.copy, wrapped, shifted, by_element])
@pytest.mark.parametrize("rms_A", [0.0, 0.005, 0.0095])
def test_near_duplicates_are_found(change: Callable[[Atoms], Atoms], rms_A):
    known = leakage.Known([cell(1), skewed(), strained(skewed())])
    found = known.twin_of(change(jittered(skewed(), rms_A)))
    assert found is not None
    assert found[0] == 1
    assert found[1] == pytest.approx(rms_A, abs=1e-9)


@pytest.mark.parametrize(
    "other",
    [
        jittered(skewed(), 0.0105),
        strained(skewed()),
        skewed()[:-1],
        Atoms(skewed().numbers[::-1] + 1, positions=skewed().positions, cell=skewed().cell, pbc=True),
        Atoms(skewed().numbers, positions=skewed().positions, cell=skewed().cell),
    ],
)
def test_others_are_not(other):
    assert leakage.Known([skewed()]).twin_of(other) is None


def test_one_atom_that_moved_far_is_another_frame():
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True).repeat(5)
    moved = atoms.copy()
    moved.positions[-1] += [0.3, 0, 0]  # 0.013 A in the root mean square of 500
    assert leakage.Known([atoms]).twin_of(moved) is None
    moved.positions[-1] -= [0.15, 0, 0]
    assert leakage.Known([atoms]).twin_of(moved) is not None


def test_all_pairs_agree_with_a_search_by_hand():
    rng = np.random.default_rng(0)
    frames = [cell(int(i % 5), amplitude_A=0.01) for i in rng.integers(0, 50, 40)]
    held = [jittered(cell(i % 5, amplitude_A=0.01), 0.02 * rng.random()) for i in range(20)]
    found = {(twin.frame, twin.known) for twin in leakage.Known(held).twins_in(frames)}
    nearest = []
    for i, frame in enumerate(frames):
        apart = []
        for known in held:
            moved = frame.positions - known.positions
            moved = moved - moved.mean(axis=0)
            same = (frame.numbers == known.numbers).all()
            apart.append(np.sqrt((moved**2).sum(axis=1).mean()) if same else np.inf)
        if min(apart) < leakage.NEAR_A:
            nearest.append((i, int(np.argmin(apart))))
    assert found == set(nearest)
    assert 0 < len(found) < len(frames)


def test_the_nearest_of_many_is_found_as_by_comparing_with_each():
    """Beyond a few dozen frames a tree finds candidates; a fixed layer makes most of two frames the same."""
    rng = np.random.default_rng(1)
    base = bulk("Cu", "fcc", a=3.8, cubic=True).repeat((2, 1, 1))
    for pbc, fixed in ((True, 0), (True, 5), ((True, True, False), 0), (False, 0)):
        known = [jittered(base, 0.2) for _ in range(3)]
        for _ in range(97):
            frame = base.copy()
            frame.positions[fixed:] += rng.normal(0, 0.1, frame.positions[fixed:].shape)
            known.append(frame)
        for frame in known:
            frame.pbc = pbc
            frame.set_cell(frame.cell * (1 + 0.001 * rng.normal()), scale_atoms=True)
        sought = [jittered(frame, 0.02 * rng.random()) for frame in known]
        tree, brute = InOrder(known, leakage.NEAR_A), InOrder(known, leakage.NEAR_A)
        assert tree._tree is not None
        brute._tree = None
        found = tree.nearest(sought)
        assert found == brute.nearest(sought)
        assert 30 < sum(twin is not None for twin in found) < 70


# ---- copies in another dress ----


def swapped(atoms: Atoms) -> Atoms:
    first = np.flatnonzero(atoms.numbers == np.bincount(atoms.numbers).argmax())[:2]
    order = np.arange(len(atoms))
    order[first] = order[first[::-1]]
    return atoms[order]


def rotated(atoms: Atoms) -> Atoms:
    atoms = atoms.copy()
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    return atoms


def mirrored(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, positions=-atoms.positions, cell=-atoms.cell.array, pbc=atoms.pbc)


def supercell(atoms: Atoms) -> Atoms:
    return atoms.repeat((2, 1, 1))


def other_axes(atoms: Atoms) -> Atoms:
    order = [1, 2, 0]
    cell_A = atoms.cell.array[:, order][order]
    return Atoms(atoms.numbers, positions=atoms.positions[:, order], cell=cell_A, pbc=atoms.pbc)


def other_vectors(atoms: Atoms) -> Atoms:
    return make_supercell(atoms, [[1, 1, 0], [0, 1, 0], [0, 3, -1]])


def oblique_supercell(atoms: Atoms) -> Atoms:
    return make_supercell(atoms, [[1, 1, 0], [0, 1, 1], [0, -1, 1]])


def all_at_once(atoms: Atoms) -> Atoms:
    atoms = rotated(shifted(supercell(mirrored(atoms))))
    return atoms[np.random.default_rng(1).permutation(len(atoms))]


DRESSES = [
    swapped, rotated, mirrored, supercell, other_axes, other_vectors, oblique_supercell, all_at_once
]  # fmt: skip


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("atoms", [cell(1), skewed(), cell(2).repeat((2, 2, 1))], ids=["cell", "skewed", "large"])
def test_copies_in_another_dress_are_found(dress: Callable[[Atoms], Atoms], atoms):
    others = [jittered(atoms, 0.05), strained(atoms), cell(7)]
    for one, other in ((atoms, dress(atoms)), (dress(atoms), atoms)):
        found = leakage.Known([*others, one]).twins_in([jittered(atoms, 0.2), other])
        assert [(twin.frame, twin.known) for twin in found] == [(1, 3)]
        assert found[0].distance_A == pytest.approx(0.0, abs=1e-7)


def test_a_copy_may_have_been_rounded_but_not_moved():
    atoms = rotated(skewed())
    known = leakage.Known([skewed()])
    for rms_A, is_copy in ((0.0005, True), (0.002, False)):
        found = known.twin_of(jittered(atoms, rms_A))
        assert (found is not None) == is_copy
        if found is not None:
            assert found[1] == pytest.approx(rms_A, rel=0.3)


def test_a_molecule_or_slab_is_the_same_in_another_box():
    butane, slab = jittered(molecule("trans-butane"), 0.03), fcc111("Cu", (2, 2, 3), vacuum=8.0)
    slab.rattle(0.05, seed=1)
    for atoms in (butane, slab):
        boxed = rotated(atoms)
        boxed.set_cell(boxed.cell.complete().array * 1.5 if atoms is butane else boxed.cell)
        boxed.pbc = True
        if atoms is butane:
            boxed.cell = [30.0, 25.0, 40.0]
        assert leakage.Known([atoms]).twin_of(boxed) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (bulk("Co", "fcc", a=3.54), bulk("Co", "hcp", a=3.54 / 2**0.5, c=3.54 * (4 / 3) ** 0.5)),
        (bulk("Cu", a=3.6), bulk("Cu", a=3.61).repeat(2)),
        (molecule("trans-butane"), molecule("isobutane")),
        (cell(1), mirrored(jittered(cell(1), 0.02))),
    ],
)
def test_what_is_only_alike_is_no_copy(one, other):
    assert leakage.Known([one]).twin_of(other) is None


def test_how_far_apart_two_molecules_stand_counts():
    def dimer(distance_A: float) -> Atoms:
        one, other = (jittered(molecule("CH3OH"), 0.02) for _ in range(2))
        other.positions += [0.0, 0.0, distance_A]
        return one + other

    for distance_A in (6.0, 15.0):
        known = leakage.Known([dimer(distance_A)])
        assert known.twin_of(rotated(dimer(distance_A))) is not None
        assert known.twin_of(rotated(dimer(distance_A + 0.5))) is None


def test_few_coordinates_agree_by_chance_so_labels_must_too():
    water = molecule("H2O")
    same, other = rotated(water), rotated(water)
    for atoms, energy in ((water, -14.1), (same, -14.1), (other, -14.2)):
        atoms.info[fr.ENERGY] = energy
        atoms.arrays[fr.FORCES] = np.full((3, 3), 0.1)
    known = leakage.Known([water])
    assert known.twin_of(same) is not None
    assert known.twin_of(other) is None
    assert known.twin_of(rotated(molecule("H2O"))) is None  # as a pool's frames, whose labels are another's


def test_frames_that_stand_more_than_once_are_told():
    frames = [cell(i) for i in range(8)]
    frames += [frames[2], rotated(frames[2]), supercell(swapped(frames[2])), frames[5].copy()]
    assert leakage.copies(frames) == [[2, 8, 9, 10], [5, 11]]
    assert leakage.copies([skewed()] * 100) == [list(range(100))]
    (said,) = repeated(Path("test.extxyz"), [rotated(skewed())] * 6, [list(range(6))])
    assert said.startswith("test.extxyz: holds 1 distinct frame 6 times (0, 1, 2, 3, 4, 5). ")


# ---- every way in ----


@pytest.fixture
def task(tmp_path, alloy_data) -> tuple[Recipe, Workspace]:
    recipe = load_recipe(write_recipe(tmp_path, alloy_data, pretrain__epochs=1, finetune__epochs=1))
    return recipe, Workspace(tmp_path / "run", EventBus(), recipe.seed)


def plant(work: Workspace, split: str, source: Path, target: Path) -> str:
    """Write the frames of `source` and a near duplicate of a held-out one to `target`; return its id."""
    twin = fr.read_frames(work.root / f"prepare/{split}.extxyz")[2]
    planted = label(jittered(twin, 0.004), frame_id="planted")
    fr.write_frames(target, [*fr.read_frames(source), planted])
    return str(twin.info[fr.ID])


@pytest.mark.slow
@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_stages_refuse_what_is_planted(task, tmp_path, split):
    """In the pool, in the training frames, and in the pool that is replayed: each training stage."""
    recipe, work = task
    data = prepare_data(recipe, work)
    pool = tmp_path / "pool.extxyz"
    fr.write_frames(pool, [label(cell(200 + i)) for i in range(8)])
    more_pool, more_train = tmp_path / "more_pool.extxyz", tmp_path / "more_train.extxyz"
    twin = plant(work, split, pool, more_pool)
    plant(work, split, data.train, more_train)
    words = rf"planted \(emt\) is 0\.004 A from {twin}"

    student = {"student": recipe.student}
    zeros = {"e0s_eV": data.e0s_eV}
    with pytest.raises(DataError, match=f"a/pretrain: 1 frames to train on are near duplicates of {split}.*{words}"):
        work.at("a").do(pretrain, Pretrain(epochs=1), **student, **zeros, model=None, pool=more_pool)
    model = work.at("b").do(pretrain, Pretrain(epochs=1), **student, **zeros, model=None, pool=pool).model
    tune = {"model": model, **student}
    with pytest.raises(DataError, match=words):
        work.at("a").do(finetune, Finetune(epochs=1), **tune, task=Task(more_train, data.valid), pool=pool)
    replays = Finetune(epochs=1, replay_fraction=0.25)
    with pytest.raises(DataError, match=words):
        work.at("c").do(finetune, replays, **tune, task=Task(data.train, data.valid), pool=more_pool)
    with pytest.raises(DataError, match=words):
        work.at("a").do(scratch, recipe.finetune, **student, **zeros, task=Task(more_train, data.valid))
    tuned = work.at("b").do(finetune, replays, **tune, task=Task(data.train, data.valid), pool=pool).model
    joint = {"wanted": Size(2, bootstrap=True), "pretrained": model, "tuned": tuned, **student}
    for at, train, some in (("a", more_train, pool), ("c", data.train, more_pool)):
        with pytest.raises(DataError, match=words):
            work.at(at).do(committee, replays, **joint, task=Task(train, data.valid), pool=some)
    assert not list(work.root.glob("*/*.part/fit*"))  # none has begun


@pytest.mark.slow
def test_no_reference_label_is_bought_for_one(task, tmp_path):
    recipe, work = task
    data = prepare_data(recipe, work)
    pool = tmp_path / "pool.extxyz"
    fr.write_frames(pool, [label(cell(200 + i)) for i in range(8)])
    student = {"student": recipe.student}
    model = work.at("a").do(pretrain, Pretrain(epochs=1), **student, e0s_eV=data.e0s_eV, model=None, pool=pool).model
    for index in range(2):
        shutil.copytree(model, tmp_path / "members" / str(index))
    held = [fr.read_frames(work.root / f"prepare/{split}.extxyz")[0] for split in ("valid", "test", "train")]
    walked = [label(jittered(frame, 0.004), frame_id=f"near-{i}") for i, frame in enumerate(held)]
    unlike = [label(cell(300 + i), frame_id=f"new-{i}") for i in range(4)]
    fr.write_frames(tmp_path / "walked.extxyz", [*walked, *unlike[:2]])
    fr.write_frames(tmp_path / "pool.extxyz", [*walked, *unlike[2:]])
    asking = load_recipe(
        write_recipe(tmp_path, Path(recipe.data.train).parent,
                     label__reference={"calculator": {"python": "ase.calculators.emt:EMT"}, "budget": 6,
                                       "max_teacher_force_eV_per_A": None})
    ).label.reference.asking  # fmt: skip
    emt = {"python": "ase.calculators.emt:EMT"}
    done = work.at("a").do(
        ask, asking, calculator=emt, teacher=emt, voters=Voters(tmp_path / "members", "mace"), test=data.test,
        candidates=Candidates(tmp_path / "walked.extxyz", tmp_path / "pool.extxyz"),
        task=Task(data.train, data.valid),
    )  # fmt: skip
    asked = {frame.info[fr.ID] for frame in fr.read_frames(done.train)} & {
        f"{k}-{i}" for k in ("near", "new") for i in range(4)
    }
    assert asked == {f"new-{i}" for i in range(4)}


@pytest.mark.parametrize("split", ["valid", "test"])
def test_check_refuses_data_that_hold_one(tmp_path, alloy_data, split):
    """Before anything is computed."""
    from ipip_ext.check.preflight import check_data

    for path in alloy_data.iterdir():
        shutil.copy(path, tmp_path)
    valid = [label(cell(400 + i), start="s0") for i in range(3)]
    fr.write_frames(tmp_path / "valid.extxyz", valid)
    recipe = load_recipe(write_recipe(tmp_path, tmp_path, data__valid=str(tmp_path / "valid.extxyz")))
    check_data(recipe)
    twin = fr.read_frames(tmp_path / f"{split}.extxyz")[1]
    fr.write_frames(
        tmp_path / "train.extxyz",
        [*fr.read_frames(tmp_path / "train.extxyz"), label(jittered(twin, 0.003), start="s0")],
    )
    with pytest.raises(DataError, match=rf"train\.extxyz: 1 frames to train on are near duplicates of {split} frames"):
        check_data(recipe)


@pytest.mark.parametrize("dress", [swapped, rotated, supercell, other_axes, other_vectors])
def test_check_refuses_a_test_set_that_is_training_in_another_dress(tmp_path, alloy_data, dress):
    from ipip_ext.check.preflight import check_data

    for path in alloy_data.iterdir():
        shutil.copy(path, tmp_path)
    recipe = load_recipe(write_recipe(tmp_path, tmp_path))
    train = fr.read_frames(tmp_path / "train.extxyz")
    disguised = [label(dress(Atoms(f.numbers, positions=f.positions, cell=f.cell, pbc=True))) for f in train]
    fr.write_frames(tmp_path / "test.extxyz", disguised)
    with pytest.raises(DataError, match=r"train\.extxyz: 12 frames to train on are near duplicates of test frames"):
        check_data(recipe)


def test_check_warns_of_a_test_set_that_is_one_frame(tmp_path, alloy_data):
    for path in alloy_data.iterdir():
        shutil.copy(path, tmp_path)
    recipe = load_recipe(write_recipe(tmp_path, tmp_path))
    fr.write_frames(tmp_path / "test.extxyz", [label(rotated(cell(100)))] * 6)
    found = load_dataset(recipe.data, recipe.explore.starts, recipe.seed)
    assert [said for said in found.findings if "test.extxyz: holds 1 distinct frame 6 times (test-00000, " in said]


def test_nothing_is_read_or_looked_at_twice(tmp_path, alloy_data, monkeypatch):
    """Neither when a run prepares what it has checked, nor when a training looks for what it must not see."""
    for path in alloy_data.iterdir():
        shutil.copy(path, tmp_path)
    recipe = load_recipe(write_recipe(tmp_path, tmp_path))
    first = load_dataset(recipe.data, recipe.explore.starts, recipe.seed)

    def no(*args: object) -> None:
        raise AssertionError

    with monkeypatch.context() as only:
        only.setattr(fr, "read_structures", no)
        only.setattr(invariants, "_look", no)
        assert load_dataset(recipe.data, recipe.explore.starts, recipe.seed) is first
        leakage.refuse("here", first.train, {"test": first.test, "valid": first.valid})
    fr.write_frames(tmp_path / "starts.extxyz", [cell(5, 0.01)])
    assert len(load_dataset(recipe.data, recipe.explore.starts, recipe.seed).starts) == 1


def test_loading_says_how_far_it_is(tmp_path, alloy_data):
    for path in alloy_data.iterdir():
        shutil.copy(path, tmp_path)
    recipe = load_recipe(write_recipe(tmp_path, tmp_path))
    said: list[tuple[float, str]] = []
    load_dataset(recipe.data, recipe.explore.starts, recipe.seed, lambda share, text: said.append((share, text)))
    assert all(0 <= share <= 1 for share, _ in said)
    assert "looking at train.extxyz, 0 of 12" in [text for _, text in said]
