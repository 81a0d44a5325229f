"""Hundreds of malformed inputs, and what comes of each: one line that names the place, exit code 2, nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import corpus
import pytest
from alloy import write_recipe

SEED = 20250301
FEWEST_REFUSED = 300


@pytest.fixture(scope="module")
def task(tmp_path_factory, alloy_data) -> Path:
    """A folder with recipe.yaml and its data. `judge` leaves it as it was."""
    folder = tmp_path_factory.mktemp("task")
    shutil.copytree(alloy_data, folder / "data")
    write_recipe(folder, Path("data"))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, finished_run) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(finished_run, tmp_path_factory.mktemp("run") / "copy")


@pytest.mark.parametrize("case", corpus.by_hand(), ids=lambda case: case.name.replace("/", ":"))
def test_what_was_broken_by_hand_is_refused(task, case):
    assert corpus.judge(case, task)


@pytest.mark.slow
@pytest.mark.parametrize("case", corpus.by_hand_of_a_run(), ids=lambda case: case.name.replace("/", ":"))
def test_a_run_broken_by_hand_is_refused(finished, case):
    assert corpus.judge(case, finished) or case.valid


def test_mutations_of_a_task_are_refused_or_still_valid(task):
    refused = [corpus.judge(case, task) for case in corpus.mutated(400, SEED)]
    assert sum(refused) >= FEWEST_REFUSED
    assert not all(refused)


@pytest.mark.slow
def test_mutations_of_a_run_are_refused_or_still_valid(finished):
    refused = [corpus.judge(case, finished) for case in corpus.mutated_of_a_run(150, SEED)]
    assert 30 <= sum(refused) < len(refused)


def test_the_unbroken_task_is_accepted(task):
    """Else every case would be refused for a reason of its own."""
    for file, command in (("recipe.yaml", corpus.CHECK), ("data/test.extxyz", corpus.EVALUATE),
                          ("data/starts.extxyz", corpus.MD)):  # fmt: skip
        assert not corpus.judge(corpus.Case("whole", file, lambda whole: whole, command, (), valid=True), task)


def test_a_wrong_end_is_seen(task):
    """The judge itself: what is accepted, and what names nothing of the user's, does not pass."""
    whole = corpus.Case("whole", "recipe.yaml", lambda whole: whole, corpus.CHECK, ("recipe.yaml",))
    with pytest.raises(corpus.Wrong, match="accepted"):
        corpus.judge(whole, task)
    unnamed = corpus.Case("unnamed", "data/test.extxyz", lambda _: b"", corpus.EVALUATE, ("another name",))
    with pytest.raises(corpus.Wrong, match="names none of another name"):
        corpus.judge(unnamed, task)
    assert (task / "data/test.extxyz").stat().st_size > 0


def test_the_corpus_is_large_and_its_names_are_its_own():
    names = [case.name for case in (*corpus.by_hand(), *corpus.by_hand_of_a_run())]
    assert len(names) == len(set(names)) > 600
