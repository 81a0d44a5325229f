"""Stages are reused, resumed, refused and started over as promised."""

from __future__ import annotations

import hashlib
import json

import pytest

from ipip_ext.errors import WorkspaceError
from ipip_ext.recipe.training import Fit
from ipip_ext.recipe.walk import Explore
from ipip_ext.run.events import EventBus
from ipip_ext.run.stage import Context
from ipip_ext.run.workspace import Unfinished, Workspace


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
    done = work(tmp_path / "run").at("iter-00").do(stage, Fit(), source=source)
    again = work(tmp_path / "run").at("iter-00").do(stage, Fit(), source=source)
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


def test_a_key_that_came_later_counts_as_its_default(tmp_path, stage):
    """An update that brings a key recomputes nothing, unless the recipe sets that key."""
    walk = {"starts": "a.extxyz", "temperatures_K": [300], "n_steps": 10, "frame_every": 5}
    work(tmp_path).do(stage, Explore(**walk), student=Fit())
    record = json.loads((tmp_path / "count/stage.json").read_text())
    for section, key in (("params", "engine"), ("params", "guard"), ("inputs", "batch_size")):
        part = record["fingerprint"][section]
        del (part["student"] if section == "inputs" else part)[key]
    (tmp_path / "count/stage.json").write_text(json.dumps(record))

    assert work(tmp_path).do(stage, Explore(**walk), student=Fit()).answer == 42
    assert stage.calls == 1
    for other, student in (
        ({"engine": "torchsim"}, Fit()), ({"guard": {"check_every": 7}}, Fit()), ({}, Fit(batch_size=3)),
    ):  # fmt: skip
        with pytest.raises(WorkspaceError, match="= None, now it is"):
            work(tmp_path).do(stage, Explore(**walk, **other), student=student)


def test_an_input_that_came_later_counts_as_the_stages_default(tmp_path):
    def double(ctx: Context, *, number: int, sign: int = 1):
        return {"answer": 2 * number * sign}

    work(tmp_path).do(double, number=4)
    assert work(tmp_path).do(double, number=4, sign=1).answer == 8
    with pytest.raises(WorkspaceError, match=r"inputs\.sign = None, now it is -1"):
        work(tmp_path).do(double, number=4, sign=-1)


def test_redo_starts_over_from_there(tmp_path, stage):
    work(tmp_path).at(name="early").do(stage, Fit(lr=0.01))
    work(tmp_path).at(name="late").do(stage, Fit(lr=0.01))
    again = work(tmp_path, redo=("late",))
    again.at(name="early").do(stage, Fit(lr=0.01))
    again.at(name="late").do(stage, Fit(lr=0.02))
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


NO_HASH = {"stage": "count", "fingerprint": {"inputs": {}}, "values": {}, "outputs": {"out": {"file": "out.txt"}}}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"stage": "count"}), json.dumps(NO_HASH), "\x00\x01"])
def test_a_corrupt_record_is_refused_and_redo_mends_it(tmp_path, stage, text):
    work(tmp_path).do(stage, Fit())
    record = tmp_path / "count" / "stage.json"
    record.write_text(text)
    with pytest.raises(WorkspaceError, match=r"stage\.json: is corrupt.*--redo count"):
        work(tmp_path).do(stage, Fit())
    assert record.read_text() == text
    assert work(tmp_path, redo=("count",)).do(stage, Fit()).answer == 42


def test_a_changed_or_missing_output_is_refused(tmp_path, stage):
    done = work(tmp_path).do(stage, Fit())
    done.out.write_text("tampered")
    with pytest.raises(WorkspaceError, match=r"out\.txt: output out is missing or was changed"):
        work(tmp_path).do(stage, Fit())
    done.out.unlink()
    with pytest.raises(WorkspaceError, match=r"out\.txt: output out is missing or was changed"):
        work(tmp_path).do(stage, Fit())


def test_a_stage_that_a_sibling_finished_is_copied(tmp_path, stage):
    source = tmp_path / "in.txt"
    source.write_text("a")
    there = work(tmp_path / "a").at("iter-00").do(stage, Fit(), source=source)
    events = []
    siblings = (tmp_path / "none", tmp_path / "b", tmp_path / "a")
    here = Workspace(tmp_path / "b", EventBus([events.append]), siblings=siblings)
    done = here.at("iter-00").do(stage, Fit(), source=source)
    assert stage.calls == 1
    assert done.record == there.record
    assert done.out == tmp_path / "b/iter-00/count/out.txt"
    assert done.out.read_text() == there.out.read_text()
    assert [(e.name, e.stage) for e in events] == [("borrowed", "iter-00/count")]
    assert work(tmp_path / "b").at("iter-00").do(stage, Fit(), source=source).answer == 42
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda there: (there.folder / "out.txt").write_text("tampered"),
        lambda there: (there.folder / "first.txt").unlink(),
        lambda there: (there.folder / "stage.json").write_text("{"),
        lambda there: (there.folder / "stage.json").write_text(json.dumps({**there.record, "versions": {}})),
        lambda there: there.folder.rename(there.folder.with_name("count.part")),
    ],
)
def test_what_is_not_whole_is_not_borrowed(tmp_path, stage, spoil):
    spoil(work(tmp_path / "a").do(stage, Fit()))
    assert work(tmp_path / "b", siblings=(tmp_path / "a",)).do(stage, Fit()).answer == 42
    assert stage.calls == 2


def test_what_differs_or_is_asked_for_anew_is_not_borrowed(tmp_path, stage):
    siblings = (tmp_path / "a",)
    work(tmp_path / "a").do(stage, Fit())
    work(tmp_path / "lr", siblings=siblings).do(stage, Fit(lr=0.5))
    work(tmp_path / "seed", siblings=siblings, seed=1).do(stage, Fit())
    work(tmp_path / "redo", siblings=siblings, redo=("count",)).do(stage, Fit())
    work(tmp_path / "sum", siblings=siblings).at(follows=True).do(stage, Fit())
    assert stage.calls == 5
    with pytest.raises(Unfinished):
        work(tmp_path / "rehearsal", siblings=siblings, rehearsal=True).do(stage, Fit())
    assert not (tmp_path / "rehearsal").exists()


def test_borrowing_after_a_kill(tmp_path, stage):
    """An attempt of one's own gives way; a copy cut short counts for nothing; another's attempt is refused."""
    stage.kill = True
    for name, lr in (("b", 0.01), ("c", 0.02)):
        with pytest.raises(Killed):
            work(tmp_path / name).do(stage, Fit(lr=lr))
    stage.kill = False
    there = work(tmp_path / "a").do(stage, Fit(lr=0.01))
    cut = tmp_path / "d/count.part"
    cut.mkdir(parents=True)
    (cut / "stage.json").write_text((there.folder / "stage.json").read_text())
    for name in ("b", "d"):
        assert work(tmp_path / name, siblings=(tmp_path / "a",)).do(stage, Fit(lr=0.01)).record == there.record
        assert not (tmp_path / name / "count.part").exists()
    with pytest.raises(WorkspaceError, match=r"params\.lr"):
        work(tmp_path / "c", siblings=(tmp_path / "a",)).do(stage, Fit(lr=0.01))
    assert stage.calls == 3


def test_seeds_differ_by_stage_and_agree_between_runs(tmp_path):
    seen = []

    def look(ctx):
        seen.append(ctx.seed)
        return {}

    for root in ("a", "b"):
        for at in ("iter-00", "iter-01"):
            work(tmp_path / root, seed=7).at(at).do(look)
    assert seen[0] == seen[2]
    assert seen[1] == seen[3]
    assert seen[0] != seen[1]


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "link"])
def test_a_record_that_leads_out_of_its_folder_is_refused(tmp_path, stage, name):
    """Its hash may be right: a run folder from someone else could have any file read, copied or published."""
    (tmp_path / "secret").write_text("secret")
    work(tmp_path).do(stage, Fit())
    folder = tmp_path / "count"
    (folder / "link").symlink_to(tmp_path / "secret")
    record = json.loads((folder / "stage.json").read_text())
    record["outputs"]["out"] = {"file": name, "sha256": hashlib.sha256(b"secret").hexdigest()}
    (folder / "stage.json").write_text(json.dumps(record))
    with pytest.raises(WorkspaceError, match=rf"names {name}, outside of its folder.*--redo count"):
        work(tmp_path).do(stage, Fit())
    assert work(tmp_path / "b", siblings=(tmp_path,)).do(stage, Fit()).answer == 42
    assert stage.calls == 2


def test_a_stage_yields_to_what_only_the_comparison_depends_on(tmp_path, stage):
    def do(**inputs):
        place = work(tmp_path / "run").at("iter-00", yields_to=("test", "ood"))
        return place.do(stage, Fit(), **inputs)

    do(model="a", test="x", ood={"key": "start", "values": ["s1"]})
    table = tmp_path / "run/compare.csv"
    table.write_text("of before")
    do(model="a", test="y", ood=None)
    assert stage.calls == 2
    assert not table.exists()
    with pytest.raises(WorkspaceError, match=r"inputs\.model = 'a', now it is 'b'"):
        do(model="b", test="x", ood=None)
    do(model="a", test="y", ood=None)
    assert stage.calls == 2


def test_a_rehearsal_goes_on_past_a_stage_that_yields(tmp_path, stage):
    work(tmp_path / "run").at(yields_to=("test",)).do(stage, Fit(), test="x")
    rehearsal = work(tmp_path / "run", rehearsal=True)
    assert rehearsal.at(yields_to=("test",)).do(stage, Fit(), test="y").answer == 42
    assert rehearsal.yielded == ["count"]
    assert stage.calls == 1
    stage.kill = True
    with pytest.raises(Killed):
        work(tmp_path / "run").at(yields_to=("test",)).do(stage, Fit(), test="y")
    with pytest.raises(Unfinished):
        work(tmp_path / "run", rehearsal=True).at(yields_to=("test",)).do(stage, Fit(), test="z")
    stage.kill = False
    assert work(tmp_path / "run").at(yields_to=("test",)).do(stage, Fit(), test="z").answer == 42
