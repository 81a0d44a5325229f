"""`ipip-mace track`: what MLflow lacks is mirrored later."""

from __future__ import annotations

import json

import pytest
from processes import hold
from tracked import EPOCHS, FINAL, all_runs, connect, count_lines, emit, history, make_events

from ipip_ext.errors import UserError, WorkspaceError
from ipip_ext.tracking.mirror import replay


def test_replay_mirrors_everything_once(folder, tracking):
    emit(folder, make_events(folder))
    assert replay(folder, tracking) == count_lines(folder)
    first = {name: run.to_dictionary() for name, run in all_runs(tracking).items()}
    assert set(first) == {"mos2", "iteration 0", "iteration 1", "teacher", "scratch"}
    assert replay(folder, tracking) == 0
    assert {name: run.to_dictionary() for name, run in all_runs(tracking).items()} == first


def test_a_run_at_work_is_not_mirrored_a_second_time(folder, tracking):
    emit(folder, make_events(folder))
    with hold(folder) as other:
        with pytest.raises(WorkspaceError, match=f"in use by process {other.pid}"):
            replay(folder, tracking)
        assert not (folder / "tracking.json").exists()
        other.kill()
    assert replay(folder, tracking) == count_lines(folder)
    assert not list(folder.glob("lock.json*"))


def test_a_kill_before_the_cursor_is_written_makes_no_duplicates(mirrored, folder, tracking):
    file = folder / "tracking.json"
    stores = json.loads(file.read_text())
    for store in stores.values():
        store["mirrored"] = 5
    file.write_text(json.dumps(stores))
    assert replay(folder, tracking) == count_lines(folder) - 5
    runs = all_runs(tracking)
    for name, run in mirrored.items():
        assert runs[name].info.run_id == run.info.run_id
        assert all(len(history(tracking, run, key)) == 1 for key in FINAL)
    assert len(history(tracking, runs["iteration 0"], "work.pretrain.valid_force_mae_meV_per_A")) == EPOCHS


def test_replay_equals_live(mirrored, folder, tracking, tmp_path):
    other = tracking.model_copy(update={"uri": f"sqlite:///{tmp_path}/other/mlflow.db"})
    replay(folder, other)
    replayed = all_runs(other)
    assert set(replayed) == set(mirrored)
    for name, run in mirrored.items():
        assert replayed[name].data.metrics == run.data.metrics
        assert replayed[name].data.params == run.data.params
        assert replayed[name].info.start_time == run.info.start_time


def test_runs_that_are_gone_are_mirrored_anew(mirrored, folder, tracking):
    connect(tracking).delete_run(mirrored["mos2"].info.run_id)
    for name in ("iteration 0", "iteration 1", "teacher", "scratch"):
        connect(tracking).delete_run(mirrored[name].info.run_id)
    assert replay(folder, tracking) == count_lines(folder)
    assert all_runs(tracking)["mos2"].info.run_id != mirrored["mos2"].info.run_id


def test_a_database_that_is_gone_is_mirrored_anew(mirrored, folder, tmp_path, tracking):
    (tmp_path / "mlflow.db").rename(tmp_path / "moved.db")
    moved = tracking.model_copy(update={"uri": f"sqlite:///{tmp_path}/moved.db"})
    ledger = folder / "tracking.json"
    ledger.write_text(ledger.read_text().replace("mlflow.db", "third.db"))
    third = tracking.model_copy(update={"uri": f"sqlite:///{tmp_path}/third.db"})
    assert replay(folder, third) == count_lines(folder)
    assert set(all_runs(third)) == set(all_runs(moved))


def test_replay_without_events_or_with_a_broken_ledger_says_what_to_do(folder, tracking, tmp_path):
    with pytest.raises(UserError, match=r"events\.jsonl is not there"):
        replay(tmp_path, tracking)
    emit(folder, make_events(folder))
    (folder / "tracking.json").write_text("{")
    with pytest.raises(WorkspaceError, match="delete it"):
        replay(folder, tracking)
