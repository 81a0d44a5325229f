"""Starting over: nothing old passes for new, and the command that is named under "to go on" goes on."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from alloy import refused
from click.testing import CliRunner
from killed import Killed, killed

from ipip_ext import admission, runner
from ipip_ext.check.status import status
from ipip_ext.check.verify import verify
from ipip_ext.cli.main import main
from ipip_ext.errors import UserError
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run import redo, signals
from ipip_ext.run.layout import PUBLISHED
from ipip_ext.run.record import remove
from ipip_ext.teachers.load import load_calculator

RUN = Path("runs/tiny")
SLOWER = ("finetune.lr=0.001", "finetune.epochs=2")


@pytest.fixture
def finished(finished_run, tmp_path, monkeypatch) -> Path:
    """The working directory: a copy of the finished run."""
    shutil.copytree(finished_run, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path.cwd()


@pytest.fixture(scope="module")
def fresh(finished_run, tmp_path_factory) -> Path:
    """The run that was never any other: with the changed fine-tuning from the start."""
    folder = tmp_path_factory.mktemp("fresh") / "run"
    # there is no working directory of its own here, where a store of MLflow's could be
    runner.run(load_recipe(finished_run / "recipe.yaml", (*SLOWER, "tracking.enabled=false")), folder, quiet=True)
    return folder


def stopped(monkeypatch, where: tuple[str, str], redone: str | None) -> None:
    """Run the changed recipe until `where`, an event's name and stage, then die."""

    def die(event) -> None:
        if (event.name, event.stage) == where:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(signals, "at_safe_points", die)
        with pytest.raises(Killed):
            runner.run(load_recipe(Path("recipe.yaml"), SLOWER), RUN, redone, quiet=True)


def assert_withdrawn() -> None:
    """Assert that nobody takes what stands there for a result."""
    assert not any((RUN / name).exists() for name in PUBLISHED)
    assert "not finished" in str(status(RUN))
    assert "has no comparison yet" in refused("compare", RUN)
    with pytest.raises(UserError, match="has no comparison yet"):
        verify(RUN)
    with pytest.raises(UserError, match="has no finished model yet"):
        load_calculator(RUN)


WEIGHTS = ("model", "iter-00/finetune/model", "iter-01/pretrain/model", "iter-01/finetune/model")


@pytest.mark.slow
@pytest.mark.parametrize(
    "where", [("withdrawn", ""), ("started", "iter-00/sample"), ("started", "iter-01/finetune"), ("started", "report")]
)
def test_a_redo_that_was_stopped_shows_nothing_old_and_goes_on_without_the_option(finished, fresh, monkeypatch, where):
    stopped(monkeypatch, where, "finetune")
    if where[1] != "report":
        assert_withdrawn()
    before = json.loads((RUN / "prepare/stage.json").read_text())
    runner.run(load_recipe(Path("recipe.yaml"), SLOWER), RUN, quiet=True)
    assert json.loads((RUN / "prepare/stage.json").read_text()) == before  # what came before it is reused
    for name in WEIGHTS:
        there, here = (run / name / "student.safetensors" for run in (fresh, RUN))
        assert here.read_bytes() == there.read_bytes(), name
    assert not any(claim.problem for claim in verify(RUN))
    assert not (RUN / redo.PENDING).exists()


@pytest.mark.slow
def test_one_that_was_stopped_before_it_had_begun_is_remembered(finished, monkeypatch):
    stopped(monkeypatch, ("reused", "prepare"), "finetune")
    assert redo.pending(RUN) == ("finetune",)
    shutil.rmtree(RUN / "report")
    shutil.rmtree(RUN / "speed")
    done = admission.admit(load_recipe(Path("recipe.yaml"), SLOWER), RUN)  # would be refused as another recipe's stages
    assert done.finetune.epochs == 2
    stopped(monkeypatch, ("started", "iter-00/finetune"), None)
    assert redo.pending(RUN) == ()
    assert (RUN / "iter-00/finetune.part").exists()
    assert (RUN / "iter-00/pretrain").exists()
    assert not (RUN / "iter-01").exists()


@pytest.mark.slow
def test_a_change_that_needs_no_redo_withdraws_the_table_and_keeps_the_model(finished, monkeypatch):
    changed = load_recipe(Path("recipe.yaml"), ("evaluate.speed_steps=3",))

    def die(event) -> None:
        if (event.name, event.stage) == ("started", "speed"):
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(signals, "at_safe_points", die)
        with pytest.raises(Killed):
            runner.run(changed, RUN, quiet=True)
    assert not any((RUN / name).exists() for name in PUBLISHED)
    with pytest.raises(UserError, match="has no comparison yet"):
        verify(RUN)
    assert load_calculator(RUN) is not None  # it is what it was
    runner.run(changed, RUN, quiet=True)
    assert (RUN / "compare.csv").exists()


@pytest.mark.slow
def test_the_same_command_once_more_withdraws_nothing(finished, monkeypatch):
    stopped_at = ("reused", "explore")

    def die(event) -> None:
        if (event.name, event.stage) == stopped_at:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(signals, "at_safe_points", die)
        with pytest.raises(Killed):
            runner.run(load_recipe(Path("recipe.yaml")), RUN, quiet=True)
    assert (RUN / "compare.csv").exists()
    assert CliRunner().invoke(main, ["compare", str(RUN)]).exit_code == 0


@pytest.mark.slow
def test_the_told_command_starts_over_until_the_folder_knows_of_it(finished, monkeypatch):
    words = ["run", "recipe.yaml", "--redo", "speed"]
    monkeypatch.setattr(sys, "argv", ["ipip-mace", *words])

    def told() -> str:
        return CliRunner().invoke(main, words).stderr.splitlines()[-1].partition("To go on: ")[2]

    def stop(event: object) -> None:
        if getattr(event, "name", "started") == "started" and getattr(event, "stage", "speed") == "speed":
            raise signals.Stopped(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(runner, "refuse_other", lambda *_: stop(None))
        assert told() == "ipip-mace run recipe.yaml --redo speed"
    assert (RUN / "speed/stage.json").exists()
    monkeypatch.setattr(signals, "at_safe_points", stop)
    assert told() == "ipip-mace run recipe.yaml"
    assert (RUN / "speed.part").exists()
    assert redo.pending(RUN) == ()


def test_what_is_removed_is_met_as_no_stage_on_the_way(tmp_path, monkeypatch):
    """A finished stage and a part of it, removed as far as a kill lets it."""
    for left in range(9):
        for name, record in (("a", "stage.json"), ("b.part", "part.json")):
            stage = tmp_path / str(left) / name
            (stage / "deep").mkdir(parents=True)
            for path in (stage / record, stage / "model", stage / "deep/file"):
                path.write_text("{}")
            with killed(monkeypatch, after=left) as death:
                remove(stage)
                death.come()
            part = stage.with_name(f"{name.removesuffix('.part')}.part")
            if stage.exists() and (stage / record).exists():
                assert (stage / "deep/file").exists()  # whole
                continue
            assert not (part / "part.json").exists()  # so that nobody goes on in it
            remove(part)
            assert not list((tmp_path / str(left)).glob(f"{part.stem}*"))


def test_what_is_not_a_run_s_is_kept(tmp_path):
    for name in ("a/stage.json", "b/c/stage.json", "b/d.part/part.json", "mine/notes.txt", "compare.csv", "thesis.tex"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[]")
    redo.intend(tmp_path, ["c"])
    assert redo.pending(tmp_path) == ("c",)
    redo.begin(tmp_path, keep=["a"])
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"a/stage.json", "mine/notes.txt", "thesis.tex"}
    assert not (tmp_path / "b").exists()
    assert redo.pending(tmp_path) == ()


def test_a_broken_note_of_a_redo_is_none(tmp_path):
    (tmp_path / redo.PENDING).write_text("{")
    assert redo.pending(tmp_path) == ()
