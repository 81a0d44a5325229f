"""The live mirror: resumed, cut short, batched."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tracked import EPOCHS, all_runs, count_lines, emit, history, make_events

from ipip_ext.run.events import Event
from ipip_ext.tracking.mirror import MlflowMirror, replay


@pytest.mark.parametrize("cut", [1, 7, 20, 33])
def test_resume_continues_the_same_runs_without_duplicates(folder, tracking, cut):
    events = make_events(folder)
    emit(folder, events[:cut], MlflowMirror(folder, tracking, "mos2"))
    again = Event("run", "started", data={**events[0].data, "versions": {"torch": "2.7"}})
    emit(folder, [again, *events[cut:]], MlflowMirror(folder, tracking, "mos2"))
    runs = all_runs(tracking)
    assert len(runs) == 5
    for i in range(2):
        points = history(tracking, runs[f"iteration {i}"], "work.finetune.valid_force_mae_meV_per_A")
        assert points == [(epoch, 100.0 - epoch - i) for epoch in range(EPOCHS)]
        assert runs[f"iteration {i}"].data.params["seed"] == "3"
    parent = runs["mos2"].data
    assert parent.params["versions.torch"] == "2.6"
    resumed = {key: value for key, value in parent.tags.items() if key.startswith("resumed.")}
    assert resumed == {"resumed.versions.torch": "2.7"}


def test_what_a_resumed_run_says_again_is_not_logged_again(folder, tracking):
    events = make_events(folder)
    emit(folder, events, MlflowMirror(folder, tracking, "mos2"))
    later = [Event(**{**vars(event), "time": event.time + 1e4}) for event in events]
    emit(folder, later, MlflowMirror(folder, tracking, "mos2"))
    runs = all_runs(tracking)
    assert len(history(tracking, runs["iteration 1"], "work.pretrain.valid_force_mae_meV_per_A")) == EPOCHS
    assert len(history(tracking, runs["scratch"], "md_step_ms")) == 1


def test_live_logging_is_batched_and_progress_counts_for_nothing(folder, tracking):
    events = make_events(folder)
    mirror = MlflowMirror(folder, tracking, "mos2")
    emit(folder, events[:8], mirror)  # up to the first epochs: nothing ends, so they wait
    ledger = json.loads((folder / "tracking.json").read_text())
    (mine,) = ledger.values()
    assert mine["mirrored"] < count_lines(folder)
    mirror.catch_up()
    (mine,) = json.loads((folder / "tracking.json").read_text()).values()
    assert mine["mirrored"] == count_lines(folder)
    assert mirror.catch_up() == 0


def test_a_line_cut_by_a_kill_is_passed_over_in_silence(folder, tracking, caplog):
    events = make_events(folder)
    emit(folder, events[:10])
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"kind": "met')
    count = count_lines(folder)
    assert replay(folder, tracking) == count - 1
    caplog.clear()
    mirror = MlflowMirror(folder, tracking, "mos2")
    emit(folder, events[10:22], mirror)
    mirror.catch_up()
    assert not caplog.records
    points = history(tracking, all_runs(tracking)["iteration 0"], "work.pretrain.valid_force_mae_meV_per_A")
    assert points == [(epoch, 100.0 - epoch) for epoch in range(EPOCHS)]
    assert replay(folder, tracking) == 0


def test_log_is_quiet_and_ours_still_speaks(tmp_path, folder):
    """In a process of its own, because MLflow sets up logging once."""
    emit(folder, make_events(folder))
    code = (
        "import sys, logging; from pathlib import Path\n"
        "from ipip_ext.recipe.recipe import Tracking; from ipip_ext.tracking.mirror import replay\n"
        "assert 'mlflow' not in sys.modules\n"
        "replay(Path(sys.argv[1]), Tracking())\n"
        "logging.getLogger('ipip_ext').warning('still here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(said) == 2, done.stderr  # the artifact that is missing, and ours
    assert said[-1] == "still here"
    assert (tmp_path / "mlflow.db").is_file()
    assert not (tmp_path / "mlruns").exists()
