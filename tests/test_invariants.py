"""What holds for any input: of splits, selection, labels, recipes and energy zeros. hypothesis looks for exceptions."""

from __future__ import annotations

import itertools
import string
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from alloy import tiny_recipe
from ase import Atoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ipip_ext.data import frames as fr
from ipip_ext.data.metrics import fit_zeros
from ipip_ext.data.select import diverse
from ipip_ext.data.splits import split_valid, subset
from ipip_ext.errors import DataError
from ipip_ext.recipe.data import Data
from ipip_ext.recipe.file import dump_recipe, load_recipe, parse_recipe

settings.register_profile(
    "invariants", deadline=None, derandomize=True, max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
ANY = settings(settings.get_profile("invariants"))
SEEDS = st.integers(0, 10**6)
GROUPS = st.lists(st.sampled_from("abcd"), min_size=4, max_size=60)


def task(**changes: object) -> Data:
    return Data(train=Path("train.extxyz"), test=Path("test.extxyz"), split_keys=("start",), **changes)


def bare(starts: list[str]) -> list[Atoms]:
    return [Atoms("Cu", info={"index": index, "start": start}) for index, start in enumerate(starts)]


def indices(frames: list[Atoms]) -> list[int]:
    return [frame.info["index"] for frame in frames]


# ---------------------------------------------------------------- splits


@ANY
@given(starts=GROUPS, fraction=st.floats(0.05, 0.6), seed=SEEDS)
def test_a_stratified_split_takes_its_share_of_every_group(starts, fraction, seed):
    frames, data = bare(starts), task(valid_fraction=fraction, valid_split="stratified")
    try:
        train, valid = split_valid(data, frames, seed)
    except DataError:
        assert not any(round(fraction * n) for n in Counter(starts).values())
        return
    assert sorted(indices(train) + indices(valid)) == list(range(len(starts)))
    taken = Counter(frame.info["start"] for frame in valid)
    assert all(taken[start] == round(fraction * n) for start, n in Counter(starts).items())
    assert [indices(part) for part in split_valid(data, bare(starts), seed)] == [indices(train), indices(valid)]


@ANY
@given(starts=GROUPS, seed=SEEDS, how=st.sampled_from(["random", "stratified"]))
def test_subsets_are_nested_from_one_frame_to_all(starts, seed, how):
    sizes = range(1, len(starts) + 1)
    chosen = [set(indices(subset(task(n_train=n, valid_split=how), bare(starts), seed))) for n in sizes]
    assert [len(some) for some in chosen] == list(sizes)
    assert all(small < large for small, large in itertools.pairwise(chosen))


# ---------------------------------------------------------------- selection


def features(seed: int, n: int) -> np.ndarray:
    """Return rows of which some are copies of others up to rounding."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 4))
    return np.concatenate([rows, rows[: n // 3] + rng.normal(0, 1e-7, (n // 3, 4))])


@ANY
@given(seed=SEEDS, n=st.integers(1, 30), most=st.integers(1, 50), tolerance=st.floats(1e-4, 0.8), old=st.integers(0, 9))
def test_what_is_dropped_adds_up(seed, n, most, tolerance, old):
    rows = features(seed, n)
    seen = np.concatenate([rows[:old], features(seed + 1, 3)])
    chosen, near = diverse(rows, most, tolerance, seen)
    over_max_frames = len(rows) - len(chosen) - near
    assert len(set(chosen)) == len(chosen) <= most
    assert over_max_frames >= 0
    assert over_max_frames == 0 or len(chosen) == most  # none is dropped for want of room while there is room
    assert not set(chosen) & set(range(min(old, n)))  # what the pool has already
    scaled = rows / np.where(rows.std(axis=0) > 1e-12, rows.std(axis=0), 1.0)
    apart = np.linalg.norm(scaled[chosen][:, None] - scaled[chosen][None], axis=2) + 1e9 * np.eye(len(chosen))
    assert len(chosen) < 2 or apart.min() > 2 * tolerance * (1 - 1e-9)  # times the root of four features


@ANY
@given(seed=SEEDS, n=st.integers(3, 30), most=st.integers(1, 20))
def test_the_choice_knows_no_order_and_grows_with_its_size(seed, n, most):
    rng = np.random.default_rng(seed)
    rows, order = rng.normal(size=(n, 4)), rng.permutation(n)
    chosen = set(diverse(rows, most, 1e-3)[0])
    assert {int(order[i]) for i in diverse(rows[order], most, 1e-3)[0]} == chosen
    assert chosen <= set(diverse(rows, most + 1, 1e-3)[0])


# ---------------------------------------------------------------- labels

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)
WORDS = st.text(string.ascii_letters + string.digits + "_-:.", min_size=1, max_size=12).filter(
    lambda word: (
        word[0] in string.ascii_letters and word.lower() not in ("t", "f", "true", "false", "nan", "inf", "infinity")
    )
)
"""What extended XYZ does not take for a number or a truth value."""


@st.composite
def labelled(draw: st.DrawFn) -> Atoms:
    n = draw(st.integers(1, 6))
    frame = Atoms(draw(st.lists(st.sampled_from(["H", "Cu", "U"]), min_size=n, max_size=n)), cell=[9.0, 8.5, 1 / 3 + 7])
    frame.pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    frame.positions = draw(arrays(float, (n, 3), elements=FINITE))
    frame.arrays[fr.FORCES] = draw(arrays(float, (n, 3), elements=FINITE))
    frame.info[fr.ENERGY] = draw(FINITE)
    if draw(st.booleans()):
        frame.info[fr.STRESS] = draw(arrays(float, (3, 3), elements=FINITE))
    frame.info[fr.ID], frame.info[fr.SOURCE] = draw(WORDS), f"teacher:{draw(WORDS)}"
    return frame


@settings(ANY, max_examples=25)
@given(frames=st.lists(labelled(), min_size=1, max_size=3))
def test_labels_come_back(tmp_path, frames):
    """Energies, stresses, cells and words bitwise; positions and forces to the 8 decimals of the file, and from then
    on bitwise, however often they are read and written.
    """
    first, second = tmp_path / "a.extxyz", tmp_path / "b.extxyz"
    fr.write_frames(first, frames)
    found = fr.read_frames(first)
    for before, after in zip(frames, found, strict=True):
        assert after.get_chemical_symbols() == before.get_chemical_symbols()
        assert np.array_equal(after.pbc, before.pbc)
        assert np.array_equal(after.cell.array, before.cell.array)
        assert after.info[fr.ENERGY] == before.info[fr.ENERGY]
        assert np.array_equal(after.info.get(fr.STRESS, 0.0), before.info.get(fr.STRESS, 0.0))
        assert (after.info[fr.ID], after.info[fr.SOURCE]) == (before.info[fr.ID], before.info[fr.SOURCE])
        for name in ("positions", fr.FORCES):
            assert np.allclose(after.arrays[name], before.arrays[name], rtol=1e-15, atol=5.1e-9)
    fr.write_frames(second, found)
    assert second.read_bytes() == first.read_bytes()
    again = fr.read_frames(second)
    assert all(np.array_equal(a.arrays[n], b.arrays[n]) for a, b in zip(found, again, strict=True) for n in a.arrays)


# ---------------------------------------------------------------- recipes

CHANGES = {
    "seed": st.integers(0, 2**64),
    "iterations": st.integers(1, 9),
    "data__valid_fraction": st.floats(0.01, 0.99),
    "data__n_train": st.none() | st.integers(1, 10**6),
    "data__e0s": st.sampled_from(["fitted", "isolated_atoms"]) | st.dictionaries(st.sampled_from(["Cu", "Al"]), FINITE),
    "teacher": st.sampled_from(["chgnet", "xtb", {"xtb": "GFN1-xTB"}, {"python": "a:b", "kwargs": {"c": [1, None]}}]),
    "student__max_ell": st.integers(0, 4),
    "student__r_max_A": st.floats(0.5, 12.0),
    "student__radial_MLP": st.lists(st.integers(1, 128), max_size=4),
    "explore__temperatures_K": st.lists(st.floats(1, 5000) | st.lists(st.floats(1, 5000), min_size=2, max_size=2),
                                        min_size=1, max_size=4),
    "explore__kick_fraction": st.floats(0, 1),
    "pretrain__lr": st.floats(1e-12, 10),
    "finetune__freeze": st.lists(st.sampled_from(["readouts", "embedding"]), max_size=2),
    "finetune__ema_decay": st.none() | st.floats(0.01, 0.9999),
    "forget__groups": st.lists(st.sampled_from(["readouts", "interactions"]), max_size=2),
    "tracking__experiment": st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30),
    "min_improvement": st.none() | st.floats(0, 1),
}  # fmt: skip


@ANY
@given(changes=st.fixed_dictionaries({}, optional=CHANGES))
def test_a_recipe_written_out_is_the_same_recipe(tmp_path, changes):
    raw = tiny_recipe(Path("data"), **changes)
    before = parse_recipe(raw, where="here", root=tmp_path)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    assert load_recipe(file).model_dump() == before.model_dump()
    file.write_text(dump_recipe(before), encoding="utf-8")
    after = load_recipe(file)
    assert after.model_dump() == before.model_dump()
    assert dump_recipe(after) == dump_recipe(before)


# ---------------------------------------------------------------- energy zeros


@ANY
@given(seed=SEEDS, n_species=st.integers(1, 4), n_frames=st.integers(6, 40), size=st.floats(0.01, 1e4))
def test_zeros_of_energies_that_are_sums_are_found_whatever_the_order(seed, n_species, n_frames, size):
    rng = np.random.default_rng(seed)
    counts = np.vstack([1 + np.eye(n_species), rng.integers(0, 9, (n_frames, n_species)) + np.eye(n_species)[0]])
    zeros = rng.normal(0, size, n_species)
    energy_eV = counts @ zeros
    assert np.allclose(fit_zeros(counts, energy_eV), zeros, rtol=1e-9, atol=1e-9 * size)
    noisy, order = energy_eV + rng.normal(0, 0.05, len(energy_eV)), rng.permutation(len(counts))
    assert np.allclose(fit_zeros(counts, noisy), fit_zeros(counts[order], noisy[order]), rtol=1e-7, atol=1e-8)
    columns = rng.permutation(n_species)
    assert np.allclose(fit_zeros(counts[:, columns], noisy), fit_zeros(counts, noisy)[columns], rtol=1e-7, atol=1e-8)


def test_of_one_composition_the_zeros_explain_the_mean():
    counts = np.tile([2.0, 1.0], (5, 1))
    assert counts[0] @ fit_zeros(counts, np.full(5, -9.0)) == pytest.approx(-9.0)
