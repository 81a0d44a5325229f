"""What a run has left, from Python: the same numbers, structures and pages as in its folder."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from alloy import contents
from click.testing import CliRunner

from ipip_ext import Run, compare, errors, open_run
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr


@pytest.fixture
def made(finished_run) -> Run:
    """The finished run where it is; nothing here changes it."""
    return open_run(finished_run / "runs/tiny")


def printed(*arguments: object) -> str:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False).stdout


def test_the_table_is_compare_csv(made, monkeypatch):
    with (made.folder / "compare.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    table = made.table()
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == list(expected[0])
    assert table["model"].tolist() == [row["model"] for row in expected]
    found = table["force_mae_meV_per_A"].tolist()
    assert found == [float(row["force_mae_meV_per_A"]) for row in expected]

    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = made.table()
    assert rows == made.rows()
    assert [{key: str(value) for key, value in row.items() if value is not None} for row in rows] == [
        {key: str(row[key]) for key, value in raw.items() if value != ""}
        for row, raw in zip(rows, expected, strict=True)
    ]
    assert all(list(row) == list(expected[0]) for row in rows)


def test_status_and_comparison_are_what_the_command_line_prints(made):
    status = made.status()
    assert f"{status}\n" == printed("status", made.folder)
    assert status.is_finished
    assert status.under_way == []
    assert {one.stage for one in status.done} >= {"prepare", "explore", "iter-01/finetune", "report"}
    assert sum(row["wall_s"] for row in status.times) > 0
    assert printed("compare", made.folder) == f"{made.folder}\n{made}\n"
    assert str(made) == made.text == (made.folder / "compare.txt").read_text()
    assert made.is_finished


def test_the_student(made, finished_run):
    assert made.model == made.folder / "model"
    assert made.report.read_text().startswith("<!doctype html>")
    test = made.frames("prepare", "test")
    (prediction,) = made.potential().compute(test[:1])
    atoms = test[0].copy()
    atoms.calc = made.calculator()
    assert atoms.get_potential_energy() == pytest.approx(prediction.energy_eV, abs=1e-4)
    assert np.allclose(atoms.get_forces(), prediction.forces_eV_per_A, atol=1e-4)
    with pytest.raises(errors.ModelFileError, match=r"committee\.export"):
        made.calculator(committee=True)
    assert made.recipe.name == "tiny"
    assert made.recipe.data.test == finished_run / "data/test.extxyz"
    assert "mlflow ui" in made.where_to_compare


def test_frames_of_a_stage(made):
    assert len(made.frames("prepare", output="train")) == 12
    walked = made.frames("explore")
    assert len(walked) == 16
    assert all(fr.ENERGY in atoms.info for atoms in walked)
    assert made.frames("iter-00/label") == fr.read_frames(made.folder / "iter-00/label/pool.extxyz")
    for stage, output, words in (
        ("explor", None, "no finished stage explor. Did you mean explore"),
        ("prepare", None, "leaves several: name one of starts, test, train, valid"),
        ("prepare", "tset", "no frames tset. Did you mean test"),
        ("../../data", None, "no finished stage"),
        ("iter-00/evaluate", None, "leaves no frames"),
    ):
        with pytest.raises(errors.WorkspaceError, match=words):
            made.frames(stage, output)


def test_verify_reads_and_changes_nothing(made):
    before = contents(made.folder)
    claims = made.verify()
    assert all(claim.holds for claim in claims)
    assert printed("verify", made.folder) == "\n".join([*map(str, claims), f"all {len(claims)} claims hold", ""])
    assert contents(made.folder) == before


def test_what_is_not_there_yet_says_so(tmp_path, finished_run):
    folder = tmp_path / "<b>run</b>"
    shutil.copytree(finished_run / "runs/tiny", folder)
    for name in ("model", "report", "speed"):
        shutil.rmtree(folder / name)
    for path in (*folder.glob("compare.*"), folder / "report.html"):
        path.unlink()
    begun = open_run(str(folder))
    assert not begun.is_finished
    assert str(begun) == str(begun.status())
    for ask in (
        begun.table,
        begun.rows,
        begun.verify,
        lambda: begun.report,
        lambda: begun.text,
        lambda: compare(begun),
    ):
        with pytest.raises(errors.WorkspaceError, match="has no comparison yet"):
            ask()
    for ask in (lambda: begun.model, begun.calculator, begun.potential):
        with pytest.raises(errors.ModelFileError, match="has no finished model yet"):
            ask()
    assert "not finished" in begun._repr_html_()
    assert "<b>run" not in begun._repr_html_()
    assert "&lt;b&gt;run" in begun._repr_html_()


def test_a_folder_that_is_no_run(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(errors.WorkspaceError, match="is no run folder"):
            open_run(folder)


def test_a_notebook_shows_the_table(made):
    shown = made._repr_html_()
    assert shown.count("<table") == 1
    assert shown.count("<tr") == 1 + len({row["model"] for row in made.rows()})
    assert "F MAE" in shown


def test_names_of_strangers_are_escaped(tmp_path, finished_run):
    """Whatever a run folder holds, a notebook shows it as text."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run / "runs/tiny", folder)
    evil = "<script>alert(1)</script>"
    csv_path = folder / "compare.csv"
    csv_path.write_text(csv_path.read_text().replace("scratch,", f"{evil},"))
    record = folder / "explore/stage.json"
    record.write_text(record.read_text().replace('"values": {', f'"values": {{"{evil}": "{evil}", '))
    for shown in (open_run(folder), open_run(folder).status(), compare(folder)):
        page = shown._repr_html_()
        assert "<script" not in page
        assert "&lt;script&gt;" in page


def test_compare_takes_runs_and_folders(made, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(made.folder, other)
    found = compare(made, other)
    assert f"{found}\n" == printed("compare", made.folder, other)
    assert [run.name for run in found.runs] == ["tiny", "other"]
    assert found.table().lines[0][:2] == ["run", "model"]
    assert found.warnings() == []
    assert "<table" in found._repr_html_()
    found.write_html(tmp_path / "both.html")
    assert "2 runs compared" in (tmp_path / "both.html").read_text()
    assert str(compare(Path(made.folder))) == made.text
    with pytest.raises(errors.WorkspaceError, match="no run is named"):
        compare()
