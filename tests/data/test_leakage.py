"""No held-out frame, nor a near duplicate of one, is ever trained on, by whatever way it comes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from alloy import cell, label, write_recipe
from ase import Atoms
from ase.build import bulk, make_supercell

from ipip_ext.data import frames as fr
from ipip_ext.data import leakage
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
