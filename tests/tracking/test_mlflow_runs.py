"""What a run is in MLflow: a parent with a child for each iteration and baseline."""

from __future__ import annotations

import json
import math

from tracked import EPOCHS, FINAL, T0, all_runs, connect, emit, history, make_events

from ipip_ext.run.events import Event
from ipip_ext.tracking.entries import FIRST
from ipip_ext.tracking.mirror import MlflowMirror, replay


def test_one_parent_with_a_child_for_each_iteration_and_baseline(mirrored, folder):
    assert set(mirrored) == {"mos2", "iteration 0", "iteration 1", "teacher", "scratch"}
    parent = mirrored.pop("mos2")
    assert "mlflow.parentRunId" not in parent.data.tags
    assert parent.data.tags["role"] == "ipip"
    assert parent.data.tags["ipip.run_folder"] == str(folder)
    assert "Compare" in parent.data.tags["mlflow.note.content"]
    for name, child in mirrored.items():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["role"] == ("iteration" if name.startswith("iter") else "baseline")
        assert child.data.params == {"recipe.name": "mos2", "seed": "3", "student.hidden_irreps": "16x0e"}


def test_final_metrics_have_the_same_keys_on_every_run(mirrored):
    worse = {"mos2": 1, "iteration 0": 0, "iteration 1": 1, "teacher": 5, "scratch": 9}
    for name, run in mirrored.items():
        final = {key: value for key, value in run.data.metrics.items() if not key.startswith("work.")}
        assert final == {key: value + worse[name] for key, value in FINAL.items()}


def test_errors_and_speed_are_the_first_that_mlflow_shows(mirrored):
    """A run's page has its metrics in the order of their coming, and its charts in sections by what stands before the
    last `/`, those without one behind all sections.
    """
    for name, run in mirrored.items():
        assert list(run.data.metrics)[:3] == list(FIRST), name
        assert not [key for key in run.data.metrics if "/" in key], name
        assert sorted(run.data.metrics)[: len(FINAL)] == sorted(FINAL), name


def test_what_is_not_measured_yet_is_said_to_be_so(folder, tracking):
    emit(folder, make_events(folder)[:12])
    replay(folder, tracking)
    for name, run in all_runs(tracking).items():
        assert list(run.data.metrics)[:3] == list(FIRST), name
        assert all(math.isnan(run.data.metrics[key]) for key in FIRST), name
    client = connect(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    assert not client.search_runs([experiment], "metrics.test_force_mae_meV_per_A < 50")


def test_a_grid_has_no_errors_of_its_own(folder, tracking):
    started = Event("run", "started", data={"recipe": {"name": "grid", "seeds": "1, 2"}, "tags": {"role": "ablation"}})
    emit(folder, [started, Event("metric", "lr_0.1/ipip_mean", 2.0), Event("run", "finished")])
    replay(folder, tracking)
    assert all_runs(tracking)["grid"].data.metrics == {"lr_0.1/ipip_mean": 2.0}


def test_parent_has_parameters_and_the_curve_over_iterations(mirrored, tracking):
    parent = mirrored["mos2"]
    params = parent.data.params
    assert params["recipe.name"] == params["name"] == "mos2"
    assert params["explore.temperatures_K"] == "[300.0, 900.0]"
    assert params["data.valid"] == "null"
    assert len(params["teacher.kwargs.a_b-090e91c0"]) == 6000  # MLflow takes no @
    assert params["versions.torch"] == "2.6"
    assert params["hardware.device"] == "cpu"
    assert params["data_sha256.data/train.xyz"] == "abc"
    curve = history(tracking, parent, "work.iteration.test_force_mae_meV_per_A")
    assert curve == [(0, 40.0), (1, 41.0)]
    assert parent.data.metrics["work.explore.wall_s"] == 7.0


def test_every_epoch_is_there_once_with_its_time(mirrored, tracking):
    for i in range(2):
        run = mirrored[f"iteration {i}"]
        for stage in ("pretrain", "finetune"):
            points = history(tracking, run, f"work.{stage}.valid_force_mae_meV_per_A")
            assert points == [(epoch, 100.0 - epoch - i) for epoch in range(EPOCHS)]
            assert run.data.metrics[f"work.{stage}.wall_s"] == 2.5
    first = mirrored["mos2"].info
    assert first.start_time == T0 * 1000
    assert {run.info.status for run in mirrored.values()} == {"FINISHED"}
    assert first.end_time > first.start_time


def test_status_follows_the_run(folder, tracking):
    events = make_events(folder)
    emit(folder, events[:22], MlflowMirror(folder, tracking, "mos2"))
    assert all_runs(tracking)["mos2"].info.status == "RUNNING"
    emit(folder, [Event("run", "stopped", "interrupted by Ctrl-C")], MlflowMirror(folder, tracking, "mos2"))
    runs = all_runs(tracking)
    assert runs["mos2"].info.status == runs["iteration 0"].info.status == "KILLED"
    assert runs["mos2"].data.tags["ipip.stopped"] == "interrupted by Ctrl-C"
    mirror = MlflowMirror(folder, tracking, "mos2")
    emit(folder, [events[0]], mirror)
    goes_on = all_runs(tracking)["mos2"]
    assert goes_on.info.status == "RUNNING"
    assert "ipip.stopped" not in goes_on.data.tags
    emit(folder, [Event("run", "stopped", "the loss is not finite")], mirror)
    assert all_runs(tracking)["mos2"].info.status == "FAILED"


def test_more_points_than_one_request_holds(folder, tracking):
    events = [Event("metric", "loss", float(n), "iter-00/pretrain", n, time=T0 + n) for n in range(2500)]
    with (folder / "events.jsonl").open("w") as file:
        file.writelines(json.dumps(vars(event)) + "\n" for event in events)
    assert replay(folder, tracking) == 2500
    points = history(tracking, all_runs(tracking)["iteration 0"], "work.pretrain.loss")
    assert points == [(n, float(n)) for n in range(2500)]
