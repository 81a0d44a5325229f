"""Grids from Python, and MLflow: what is varied, what comes back, and a store's pages."""

from __future__ import annotations

import csv
import signal
import threading
from pathlib import Path

import pytest
from alloy import write_recipe

from ipip_ext import Run, ablate, compare, errors, open_ui, track
from ipip_ext.api.grids import _texts


def test_what_is_varied_is_what_the_command_line_takes():
    vary = {
        "finetune.lr": [0.003, 1e-5],
        "forget__groups": [["readouts"], []],
        "adapt": [None, {"epochs": 3}],
        "a": ("no",),
    }
    assert _texts(vary) == [
        "finetune.lr=0.003, 1.0e-05", "forget.groups=[readouts], []", "adapt=null, {epochs: 3}", "a='no'",
    ]  # fmt: skip
    assert _texts(("finetune.lr=1,2",)) == ("finetune.lr=1,2",)


@pytest.mark.slow
def test_a_grid_comes_back_as_runs_and_a_table(tmp_path, alloy_data, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    path = write_recipe(tmp_path, alloy_data, iterations=1, tracking__enabled=False)
    vary = {"evaluate.speed_steps": [2, 3]}
    found = ablate(path, vary, "name=grid", seeds=1, progress=False, finetune__epochs=2)
    assert capfd.readouterr().err == ""
    assert found.folder == Path("runs/grid-ablate")
    assert [run.recipe.evaluate.speed_steps for run in found.runs] == [2, 3]
    assert [run.recipe.finetune.epochs for run in found.runs] == [2, 2]
    with (found.folder / "ablate.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(found.table()) == len(found.rows())
    assert str(found) == (found.folder / "ablate.txt").read_text()
    assert found._repr_html_().startswith("<pre>")
    assert [run.seed for run in compare(found.folder).runs] == [3, 3]

    again = ablate(path, vary, "name=grid", seeds=1, finetune__epochs=2)
    assert again == found
    assert "[2/2] evaluate.speed_steps=3, seed 3: was finished" in capfd.readouterr().err


def test_a_grid_that_is_none_is_refused(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_recipe(tmp_path, alloy_data)
    for vary, seeds, words in (
        ({"finetune.lr": [0.1]}, 0, "--seeds 0: must be 1 to"),
        ({"finetune.lr": 0.1}, 1, r"finetune\.lr: give a list"),
        ({}, 1, "nothing is varied"),
        ({"finetune.lr": [object()]}, 1, r"finetune\.lr: list can't stand in a recipe"),
    ):
        with pytest.raises(errors.RecipeError, match=words):
            ablate(path, vary, seeds=seeds)
    assert not Path("runs").exists()


def test_what_can_not_be_mirrored(tmp_path, finished_run):
    for folder in (tmp_path, Run(tmp_path)):
        with pytest.raises(errors.WorkspaceError, match="is no run folder"):
            track(folder)


def test_pages_of_a_server_need_no_other(caplog):
    before = signal.getsignal(signal.SIGTERM)
    assert open_ui("http://there:1", host="0.0.0.0") == 0  # noqa: S104
    assert signal.getsignal(signal.SIGTERM) is before
    assert "whoever reaches 0.0.0.0:5000 can read, change and delete these runs" in caplog.text
    with pytest.raises(errors.UserError, match=r"none\.db is not there"):
        open_ui("sqlite:///none.db")
    told: list[str] = []

    def elsewhere() -> None:
        with pytest.raises(errors.UserError, match="main thread alone"):
            open_ui("http://there:1")
        told.append("refused")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert told == ["refused"]
