"""Runs and stores for the tests of tracking: what a run says, and what MLflow has of it."""

from __future__ import annotations

import math
import socket

from ipip_ext.run.events import Event, EventBus, JsonLines

FINAL = {"test_force_mae_meV_per_A": 40.0, "test_energy_mae_meV_per_atom": 3.0, "md_step_ms": 30.0}
EPOCHS = 5
T0 = 1_700_000_000.0


def make_events(folder):
    """Two iterations and two baselines, as a run says them."""
    (folder / "iter-00/finetune").mkdir(parents=True)
    (folder / "iter-00/finetune/model.pt").write_text("weights")
    (folder / "report").mkdir()
    (folder / "report/report.md").write_text("# Report")
    (folder / "report/parity.png").write_text("png")
    events = [
        Event(
            "run",
            "started",
            data={
                "recipe": {
                    "name": "mos2",
                    "seed": 3,
                    "student.hidden_irreps": "16x0e",
                    "explore.temperatures_K": [300.0, 900.0],
                    "data.valid": None,
                    "teacher.kwargs.a@b": "x" * 7000,
                },
                "versions": {"torch": "2.6"},
                "hardware": {"device": "cpu"},
                "data_sha256": {"data/train.xyz": "abc"},
            },
        ),
        Event("stage", "started", stage="explore"),
        Event("progress", "walking", 0.5, "explore"),
        Event("stage", "finished", stage="explore", data={"wall_s": 7.0}),
    ]
    for i in range(2):
        for stage in ("pretrain", "finetune"):
            at = f"iter-{i:02d}/{stage}"
            events.append(Event("stage", "started", stage=at))
            for epoch in range(EPOCHS):
                events.append(Event("metric", "valid_force_mae_meV_per_A", 100.0 - epoch - i, at, epoch))
                events.append(Event("progress", "training", epoch / EPOCHS, at))
            events.append(Event("stage", "finished", stage=at, data={"wall_s": 2.5}))
    events += [
        Event("artifact", "student", "iter-00/finetune/model.pt", "iter-00/finetune"),
        Event("artifact", "report", "report", "report"),
        Event("artifact", "lost", "report/nowhere.png", "report"),
        *(row(f"iteration {i}", "iteration", f"iter-{i:02d}", i) for i in range(2)),
        row("teacher", "baseline", "baseline-teacher", 5),
        row("scratch", "baseline", "baseline-scratch", 9),
        row("student", "ipip", "", 1),
        Event("note", "done"),
        Event("run", "finished"),
    ]
    return [Event(**{**vars(event), "time": T0 + n}) for n, event in enumerate(events)]


def row(name, role, stage, worse):
    metrics = {key: value + worse for key, value in FINAL.items()}
    return Event("row", name, stage="evaluate", data={"role": role, "stage": stage, "metrics": metrics})


def emit(folder, events, *sinks):
    bus = EventBus([JsonLines(folder / "events.jsonl"), *sinks])
    for event in events:
        bus.emit(event)


def count_lines(folder):
    return len((folder / "events.jsonl").read_text().splitlines())


def connect(tracking):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=tracking.uri)


def all_runs(tracking):
    """Return the runs by name; a name that stands twice fails."""
    client = connect(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    by_name = {run.info.run_name: run for run in found}
    assert len(by_name) == len(found)
    return by_name


def history(tracking, run, key):
    """Return what was measured, without the places that are kept for it."""
    points = connect(tracking).get_metric_history(run.info.run_id, key)
    return sorted((point.step, point.value) for point in points if not math.isnan(point.value))


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
