"""Stages are reused, resumed, refused and started over as promised."""

from __future__ import annotations

import json

import pytest

from ipip_ext.errors import WorkspaceError
from ipip_ext.events import EventBus
from ipip_ext.recipe import Fit
from ipip_ext.workspace import Context, Workspace


class Killed(Exception):
    pass


class Counter:
    """A stage that counts its calls and can be killed after its first file."""

    __name__ = "count"

    def __init__(self) -> None:
        self.calls = 0
        self.kill = False

    def __call__(self, ctx: Context, params, **inputs):
        self.calls += 1
        first = ctx.folder / "first.txt"
        if not first.exists():
            first.write_text("from the first attempt")
        if self.kill:
            raise Killed
        out = ctx.folder / "out.txt"
        out.write_text(f"{params} {sorted(inputs)}")
        return {"out": out, "first": first, "answer": 42}


@pytest.fixture
def stage():
    return Counter()


def work(folder, **options):
    return Workspace(folder, EventBus(), **options)


def test_a_finished_stage_is_reused(tmp_path, stage):
    source = tmp_path / "in.txt"
    source.write_text("a")
    done = work(tmp_path / "run").do(stage, Fit(), at="iter-00", source=source)
    again = work(tmp_path / "run").do(stage, Fit(), at="iter-00", source=source)
    assert stage.calls == 1
    assert again.answer == 42
    assert again.out == tmp_path / "run" / "iter-00" / "count" / "out.txt"
    assert done.record == again.record
    with pytest.raises(AttributeError, match="nothing"):
        _ = done.nothing


def test_moving_the_input_does_not_matter_but_its_content_does(tmp_path, stage):
    source, moved = tmp_path / "in.txt", tmp_path / "moved.txt"
    source.write_text("a")
    moved.write_text("a")
    work(tmp_path / "run").do(stage, Fit(), source=source)
    work(tmp_path / "run").do(stage, Fit(), source=moved)
    assert stage.calls == 1
    moved.write_text("b")
    with pytest.raises(WorkspaceError, match=r"inputs\.source.*--redo count"):
        work(tmp_path / "run").do(stage, Fit(), source=moved)
    assert stage.calls == 1


def test_other_parameters_are_refused_by_name(tmp_path, stage):
    work(tmp_path).do(stage, Fit(lr=0.01))
    with pytest.raises(WorkspaceError, match=r"params\.lr = 0\.01, now it is 0\.02"):
        work(tmp_path).do(stage, Fit(lr=0.02))
    with pytest.raises(WorkspaceError, match="seed"):
        work(tmp_path, seed=1).do(stage, Fit(lr=0.01))


def test_redo_starts_over_from_there(tmp_path, stage):
    work(tmp_path).do(stage, Fit(lr=0.01), at=":early")
    work(tmp_path).do(stage, Fit(lr=0.01), at=":late")
    again = work(tmp_path, redo="late")
    again.do(stage, Fit(lr=0.01), at=":early")
    again.do(stage, Fit(lr=0.02), at=":late")
    assert stage.calls == 3


def test_a_killed_stage_finds_what_it_left_and_nothing_half_is_promoted(tmp_path, stage):
    stage.kill = True
    with pytest.raises(Killed):
        work(tmp_path).do(stage, Fit())
    assert not (tmp_path / "count").exists()
    assert (tmp_path / "count.part" / "first.txt").exists()
    stage.kill = False
    done = work(tmp_path).do(stage, Fit())
    assert done.first.read_text() == "from the first attempt"
    assert not (tmp_path / "count.part").exists()


def test_an_unfinished_stage_of_other_parameters_is_refused(tmp_path, stage):
    stage.kill = True
    with pytest.raises(Killed):
        work(tmp_path).do(stage, Fit(lr=0.01))
    with pytest.raises(WorkspaceError, match=r"params\.lr"):
        work(tmp_path).do(stage, Fit(lr=0.02))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"stage": "count"}), "\x00\x01"])
def test_a_corrupt_record_is_refused_and_redo_mends_it(tmp_path, stage, text):
    work(tmp_path).do(stage, Fit())
    record = tmp_path / "count" / "stage.json"
    record.write_text(text)
    with pytest.raises(WorkspaceError, match=r"stage\.json: is corrupt.*--redo count"):
        work(tmp_path).do(stage, Fit())
    assert record.read_text() == text
    assert work(tmp_path, redo="count").do(stage, Fit()).answer == 42


def test_a_changed_or_missing_output_is_refused(tmp_path, stage):
    done = work(tmp_path).do(stage, Fit())
    done.out.write_text("tampered")
    with pytest.raises(WorkspaceError, match=r"out\.txt: output out is missing or was changed"):
        work(tmp_path).do(stage, Fit())
    done.out.unlink()
    with pytest.raises(WorkspaceError, match=r"out\.txt: output out is missing or was changed"):
        work(tmp_path).do(stage, Fit())


def test_seeds_differ_by_stage_and_agree_between_runs(tmp_path):
    seen = []

    def look(ctx):
        seen.append(ctx.seed)
        return {}

    for root in ("a", "b"):
        for at in ("iter-00", "iter-01"):
            work(tmp_path / root, seed=7).do(look, at=at)
    assert seen[0] == seen[2]
    assert seen[1] == seen[3]
    assert seen[0] != seen[1]
