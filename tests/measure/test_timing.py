"""Where the time went: sums of what stages recorded, with what was computed elsewhere told apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ipip_ext.check.status import status
from ipip_ext.measure import timing
from ipip_ext.run.events import EventBus, JsonLines
from ipip_ext.run.layout import EVENTS
from ipip_ext.run.stage import Context
from ipip_ext.run.workspace import Workspace


def work(folder: Path, **options) -> Workspace:
    folder.mkdir(exist_ok=True)
    return Workspace(folder, EventBus([JsonLines(folder / EVENTS)]), **options)


def finetune(ctx: Context) -> dict:
    return {"answer": 1}


def scratch(ctx: Context) -> dict:
    return {"answer": 2}


def pretrain(ctx: Context) -> dict:
    """A long stage of the first process, in the middle of which a second one trains the baseline."""
    work(ctx.folder.parent.parent).at("baseline-scratch").do(scratch)
    return {"answer": 3}


def spend(folder: Path, wall_s: dict[str, float]) -> None:
    """Have the finished stages taken these times."""
    for name, seconds in wall_s.items():
        path = folder / name / "stage.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_s": seconds}))


def by_kind(folder: Path) -> dict[str, tuple]:
    return {row["stage"]: (row["how"], row["n_stages"], row["wall_s"], row["share"]) for row in timing.times(folder)}


def test_stages_of_a_kind_are_summed_and_the_longest_comes_first(tmp_path):
    run = work(tmp_path / "run")
    for at in ("iter-00", "iter-01"):
        run.at(at).do(finetune)
    run.at("baseline-scratch").do(scratch)
    run.at(name="report").do(finetune)
    spend(run.root, {"iter-00/finetune": 1.0, "iter-01/finetune": 2.0, "baseline-scratch/scratch": 9.0, "report": 99.0})
    (run.root / "iter-01" / "label.part").mkdir()
    (run.root / "iter-01" / "label.part" / "stage.json").write_text("{")
    assert by_kind(run.root) == {"scratch": ("here", 1, 9.0, 0.75), "finetune": ("here", 2, 3.0, 0.25)}
    assert list(by_kind(run.root)) == ["scratch", "finetune"]
    text = timing.table(timing.times(run.root))
    assert [line.split() for line in text.splitlines()[2:]] == [
        ["scratch", "1", "9", "75%"], ["finetune", "2", "3", "25%"], ["all", "3", "12"],
    ]  # fmt: skip


def test_a_baseline_trained_beside_others_is_not_in_their_way(tmp_path):
    run = work(tmp_path / "run")
    run.at("iter-00").do(pretrain)
    run.at("baseline-scratch").do(scratch)  # reused, as the first process does in the end
    run.at("iter-00").do(finetune)
    spend(run.root, {"iter-00/pretrain": 4.0, "iter-00/finetune": 1.0, "baseline-scratch/scratch": 3.0})
    assert by_kind(run.root) == {
        "pretrain": ("here", 1, 4.0, 0.8), "finetune": ("here", 1, 1.0, 0.2), "scratch": ("beside", 1, 3.0, None),
    }  # fmt: skip
    text = timing.table(timing.times(run.root))
    assert "all                       2       5" in text
    assert "scratch (beside)          1       3" in text
    assert "beside: in other processes" in text
    assert "borrowed" not in text


def test_what_was_borrowed_was_not_spent_here(tmp_path):
    source = work(tmp_path / "source")
    source.at("iter-00").do(finetune)
    run = work(tmp_path / "run", siblings=(source.root,))
    run.at("iter-00").do(finetune)
    run.at("baseline-scratch").do(scratch)
    spend(run.root, {"iter-00/finetune": 5.0, "baseline-scratch/scratch": 2.0})
    assert by_kind(run.root) == {"scratch": ("here", 1, 2.0, 1.0), "finetune": ("borrowed", 1, 5.0, None)}
    (run.root / "recipe.yaml").touch()
    assert str(status(run.root)).endswith("borrowed: copied from another run of the grid, which spent that time.")


def test_a_folder_without_stages_has_no_table(tmp_path):
    (tmp_path / "recipe.yaml").touch()
    assert timing.times(tmp_path) == []
    assert "where the time went" not in str(status(tmp_path))


@pytest.mark.slow
def test_a_finished_run_tells_where_its_time_went(finished_run):
    run = finished_run / "runs" / "tiny"
    with (run / "time.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == timing.COLUMNS
    spent = {}
    for path in run.rglob("stage.json"):
        if path.parent.name != "report":
            spent.setdefault(path.parent.name, []).append(json.loads(path.read_text())["wall_s"])
    assert {row["stage"]: (int(row["n_stages"]), float(row["wall_s"])) for row in rows} == {
        kind: (len(some), pytest.approx(sum(some), abs=1e-3)) for kind, some in spent.items()
    }
    assert {"explore", "pretrain", "finetune", "evaluate", "scratch", "speed"} <= spent.keys()
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1.0, abs=1e-3)
    table = timing.table(timing.times(run))
    assert (run / "compare.txt").read_text().endswith(f"\n\n{table}\n")
    assert str(status(run)).endswith(f"\n\n{table}")
