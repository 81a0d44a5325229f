"""Mirroring to a real MLflow store."""

import json
import logging
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from processes import hold

from ipip_ext.data import frames as fr
from ipip_ext.errors import UserError, WorkspaceError
from ipip_ext.recipe.tracking import Tracking
from ipip_ext.run.events import Event, EventBus, JsonLines
from ipip_ext.run.provenance import sha256
from ipip_ext.teachers.load import load_potential
from ipip_ext.tracking import mirror as module
from ipip_ext.tracking.mirror import MlflowMirror, replay, run_url_hint, serve_ui
from ipip_ext.tracking.store import run_of, run_title, store_name, translate

FINAL = {"test_force_mae_meV_per_A": 40.0, "test_energy_mae_meV_per_atom": 3.0, "md_steps_per_s": 900.0}
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
    points = connect(tracking).get_metric_history(run.info.run_id, key)
    return sorted((point.step, point.value) for point in points)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "runs" / "mos2"
    path.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """MLflow takes a second to make its tables, so they are made once and copied."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    module._connect(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def tracking(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="test of tracking")


@pytest.fixture
def mirrored(folder, tracking):
    emit(folder, make_events(folder), MlflowMirror(folder, tracking, "mos2"))
    return all_runs(tracking)


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
        final = {key: value for key, value in run.data.metrics.items() if "/" not in key}
        assert final == {key: value + worse[name] for key, value in FINAL.items()}


@pytest.mark.parametrize(
    ("name", "is_detail"),
    [
        ("test_force_mae_meV_per_A", False), ("test_id_energy_rmse_meV_per_atom", True), ("md_step_ms", False),
        ("test_Mo_S_force_mae_meV_per_A", False), ("test_stress_mae_meV_per_A3", False), ("md_sane_share", False),
        ("test_Mo_S_force_mae_Mo_meV_per_A", True), ("test_force_mae_1500K_meV_per_A", True),
        ("test_ood_energy_mae_ci95_low_meV_per_atom", True), ("test_id_force_p95_meV_per_A", True),
        ("test_force_angle_deg", True), ("md_sane_share_300K", True), ("md_step_ms_108_atoms", True),
        ("strain_rmse_meV_per_atom", False), ("n_reference_labels", True),
    ],
)  # fmt: skip
def test_what_one_looks_for_first_is_not_lost_among_details(name, is_detail):
    (entry,) = translate(Event("row", "scratch", data={"role": "baseline", "stage": "s", "metrics": {name: 1.0}}))
    assert entry.metrics == {f"work/detail/{name}" if is_detail else name: 1.0}


def test_parent_has_parameters_and_the_curve_over_iterations(mirrored, tracking):
    parent = mirrored["mos2"]
    params = parent.data.params
    assert params["recipe.name"] == params["name"] == "mos2"
    assert params["explore.temperatures_K"] == "[300.0, 900.0]"
    assert params["data.valid"] == "null"
    assert len(params["teacher.kwargs.a_b"]) == 6000
    assert params["versions.torch"] == "2.6"
    assert params["hardware.device"] == "cpu"
    assert params["data_sha256.data/train.xyz"] == "abc"
    curve = history(tracking, parent, "work/iteration/test_force_mae_meV_per_A")
    assert curve == [(0, 40.0), (1, 41.0)]
    assert parent.data.metrics["work/explore/wall_s"] == 7.0


def test_every_epoch_is_there_once_with_its_time(mirrored, tracking):
    for i in range(2):
        run = mirrored[f"iteration {i}"]
        for stage in ("pretrain", "finetune"):
            points = history(tracking, run, f"work/{stage}/valid_force_mae_meV_per_A")
            assert points == [(epoch, 100.0 - epoch - i) for epoch in range(EPOCHS)]
            assert run.data.metrics[f"work/{stage}/wall_s"] == 2.5
    first = mirrored["mos2"].info
    assert first.start_time == T0 * 1000
    assert {run.info.status for run in mirrored.values()} == {"FINISHED"}
    assert first.end_time > first.start_time


def test_artifacts_lie_beside_the_database_in_the_run_of_their_stage(mirrored, tracking, tmp_path):
    client = connect(tracking)
    student = mirrored["iteration 0"].info
    assert [file.path for file in client.list_artifacts(student.run_id, "finetune")] == ["finetune/model.pt"]
    assert (tmp_path / "mlartifacts" / student.run_id / "artifacts/finetune/model.pt").read_text() == "weights"
    report = client.list_artifacts(mirrored["mos2"].info.run_id, "report")
    assert {file.path for file in report} == {"report/report.md", "report/parity.png"}


def test_a_missing_artifact_is_a_warning_and_not_the_end(folder, tracking, caplog):
    emit(folder, make_events(folder), MlflowMirror(folder, tracking, "mos2"))
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "nowhere.png" in warnings[0]


def test_an_artifact_outside_of_the_run_folder_is_refused(folder, tracking, tmp_path, caplog):
    """Of a foreign run folder, which may name any file and hold links to any."""
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "plots").mkdir()
    (folder / "plots/picture.png").symlink_to(tmp_path / "secret.txt")
    (folder / "table.csv").write_text("table")
    places = ["../../secret.txt", str(tmp_path / "secret.txt"), "plots", "plots/picture.png", "../..", "table.csv"]
    emit(folder, [Event("artifact", "x", place) for place in places])
    replay(folder, tracking)
    uploaded = [path.name for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]
    assert uploaded == ["table.csv"]
    assert caplog.text.count("outside of the run folder") == 5


def test_a_run_at_work_is_not_mirrored_a_second_time(folder, tracking):
    emit(folder, make_events(folder))
    with hold(folder) as other:
        with pytest.raises(WorkspaceError, match=f"in use by process {other.pid}"):
            replay(folder, tracking)
        assert not (folder / "tracking.json").exists()
        other.kill()
    assert replay(folder, tracking) == count_lines(folder)
    assert not list(folder.glob("lock.json*"))


@pytest.mark.parametrize("cut", [1, 7, 20, 33])
def test_resume_continues_the_same_runs_without_duplicates(folder, tracking, cut):
    events = make_events(folder)
    emit(folder, events[:cut], MlflowMirror(folder, tracking, "mos2"))
    again = Event("run", "started", data={**events[0].data, "versions": {"torch": "2.7"}})
    emit(folder, [again, *events[cut:]], MlflowMirror(folder, tracking, "mos2"))
    runs = all_runs(tracking)
    assert len(runs) == 5
    for i in range(2):
        points = history(tracking, runs[f"iteration {i}"], "work/finetune/valid_force_mae_meV_per_A")
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
    assert len(history(tracking, runs["iteration 1"], "work/pretrain/valid_force_mae_meV_per_A")) == EPOCHS
    assert len(history(tracking, runs["scratch"], "md_steps_per_s")) == 1


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
    assert all_runs(tracking)["mos2"].info.status == "RUNNING"
    emit(folder, [Event("run", "stopped", "the loss is not finite")], mirror)
    assert all_runs(tracking)["mos2"].info.status == "FAILED"


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


def test_replay_mirrors_everything_once(folder, tracking):
    emit(folder, make_events(folder))
    assert replay(folder, tracking) == count_lines(folder)
    first = {name: run.to_dictionary() for name, run in all_runs(tracking).items()}
    assert set(first) == {"mos2", "iteration 0", "iteration 1", "teacher", "scratch"}
    assert replay(folder, tracking) == 0
    assert {name: run.to_dictionary() for name, run in all_runs(tracking).items()} == first


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
    assert len(history(tracking, runs["iteration 0"], "work/pretrain/valid_force_mae_meV_per_A")) == EPOCHS


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
    points = history(tracking, all_runs(tracking)["iteration 0"], "work/pretrain/valid_force_mae_meV_per_A")
    assert points == [(epoch, 100.0 - epoch) for epoch in range(EPOCHS)]
    assert replay(folder, tracking) == 0


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


def test_more_points_than_one_request_holds(folder, tracking):
    events = [Event("metric", "loss", float(n), "iter-00/pretrain", n, time=T0 + n) for n in range(2500)]
    with (folder / "events.jsonl").open("w") as file:
        file.writelines(json.dumps(vars(event)) + "\n" for event in events)
    assert replay(folder, tracking) == 2500
    points = history(tracking, all_runs(tracking)["iteration 0"], "work/pretrain/loss")
    assert points == [(n, float(n)) for n in range(2500)]


def test_an_unreachable_server_costs_one_warning_and_replay_has_it_all(folder, tracking, caplog):
    dead = Tracking(uri=f"http://127.0.0.1:{free_port()}")
    start = time.monotonic()
    emit(folder, make_events(folder), MlflowMirror(folder, dead, "mos2"))
    assert time.monotonic() - start < 15
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert f"ipip-mace track {folder}" in warnings[0]
    assert replay(folder, tracking) == count_lines(folder)
    assert len(all_runs(tracking)) == 5
    with pytest.raises(UserError, match="can't be used") as raised:
        replay(folder, dead)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_database_is_told_at_once(folder, tmp_path, caplog):
    (tmp_path / "bad.db").write_text("not a database" * 100)
    bad = Tracking(uri=f"sqlite:///{tmp_path}/bad.db")
    emit(folder, make_events(folder), MlflowMirror(folder, bad, "mos2"))
    assert "not a database" in caplog.text
    with pytest.raises(UserError, match="not a database"):
        replay(folder, bad)


def test_a_locked_database_stops_tracking_only(folder, tracking, tmp_path, caplog, monkeypatch):
    replies = []
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        emit(folder, make_events(folder), MlflowMirror(folder, tracking, "mos2"), replies.append)
        other.execute("ROLLBACK")
    other.close()
    assert caplog.text.count("tracking stopped") == 1
    assert "locked" in caplog.text
    assert replies[-1].name == "finished"


def test_an_error_while_logging_stops_tracking_only(folder, tracking, caplog, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(module.Ledger, "save", fail)
    emit(folder, make_events(folder), MlflowMirror(folder, tracking, "mos2"))
    assert caplog.text.count("tracking stopped: OSError: [Errno 30] Read-only file system.") == 1


def test_replay_without_events_or_with_a_broken_ledger_says_what_to_do(folder, tracking, tmp_path):
    with pytest.raises(UserError, match=r"events\.jsonl is not there"):
        replay(tmp_path, tracking)
    emit(folder, make_events(folder))
    (folder / "tracking.json").write_text("{")
    with pytest.raises(WorkspaceError, match="delete it"):
        replay(folder, tracking)


def test_log_is_quiet_and_ours_still_speaks(tmp_path, folder):
    """In a process of its own, because MLflow sets up logging once."""
    emit(folder, make_events(folder))
    code = (
        "import sys, logging; from pathlib import Path\n"
        "from ipip_ext.recipe.tracking import Tracking; from ipip_ext.tracking.mirror import replay\n"
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


def test_store_is_named_relative_to_the_run_folder(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "a"
    monkeypatch.chdir(tmp_path)
    assert store_name("sqlite:///mlflow.db", run) == "sqlite:../../mlflow.db"
    assert store_name("http://host:5000", run) == "http://host:5000"


def test_translate_knows_children_and_leaves_out_what_is_no_number():
    assert run_of("iter-03/pretrain") == "iter-03"
    assert run_of("baseline-scratch") == "baseline-scratch"
    assert run_of("explore") == run_of("iter-x/pretrain") == run_of("") == ""
    assert run_title("iter-03") == ("iteration 3", "iteration")
    assert run_title("baseline-scratch") == ("scratch", "baseline")
    assert translate(Event("note", "x")) == translate(Event("progress", "x", 0.1)) == []
    (entry,) = translate(Event("metric", "name", "text", "explore"))
    assert not entry.metrics


def test_hint_and_ui_say_where_to_look(tmp_path, capsys):
    assert "mlflow ui" in run_url_hint(Tracking())
    assert "http://there:1" in run_url_hint(Tracking(uri="http://there:1"))
    assert f"sqlite:///{tmp_path}/a.db" in run_url_hint(Tracking(uri=f"sqlite:///{tmp_path}/a.db"))
    assert serve_ui("http://there:1", "127.0.0.1", 5000) == 0
    assert "http://there:1" in capsys.readouterr().out
    with pytest.raises(UserError, match="run a recipe first"):
        serve_ui(f"sqlite:///{tmp_path}/none.db", "127.0.0.1", 5000)


@pytest.mark.slow
def test_ui_serves_runs_and_artifacts(mirrored, tracking, tmp_path):
    port = free_port()
    code = (
        "import sys; from ipip_ext.tracking.mirror import serve_ui\n"
        "sys.exit(serve_ui(sys.argv[1], '127.0.0.1', int(sys.argv[2])))"
    )
    with (tmp_path / "server.log").open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-c", code, tracking.uri, str(port)], cwd=tmp_path, stdout=out, stderr=out
        )
    base = f"http://127.0.0.1:{port}"
    try:
        assert wait_for(f"{base}/health", server) == b"OK", (tmp_path / "server.log").read_text()
        run_id = mirrored["iteration 0"].info.run_id
        assert get(f"{base}/get-artifact?path=finetune/model.pt&run_uuid={run_id}") == b"weights"
        served = json.loads(get(f"{base}/ajax-api/2.0/mlflow/runs/get?run_id={run_id}"))["run"]
        assert served["info"]["run_name"] == "iteration 0"
        listed = get(f"{base}/ajax-api/2.0/mlflow/artifacts/list?run_id={run_id}&path=finetune")
        assert b"finetune/model.pt" in listed
        assert b"<html" in get(base)
    finally:
        server.terminate()  # a Ctrl-C takes the same way
        code = server.wait(timeout=30)
    assert code == 0
    assert "Traceback" not in (tmp_path / "server.log").read_text()
    with pytest.raises(urllib.error.URLError):
        get(f"{base}/health")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - our own server
        return reply.read()


def wait_for(url, server, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            return get(url)
        except OSError:
            time.sleep(0.3)
    return None


@pytest.fixture(scope="module")
def published(finished_run, tmp_path_factory):
    """A finished run of its own, beside the store that its run wrote."""
    folder = tmp_path_factory.mktemp("published") / "runs" / "tiny"
    shutil.copytree(finished_run / "runs" / "tiny", folder)
    (folder / "tracking.json").unlink()
    tracking = Tracking(uri=f"sqlite:///{folder.parents[1]}/mlflow.db")
    replay(folder, tracking)
    return folder, tracking


def versions_of(tracking, name="tiny"):
    return connect(tracking).search_model_versions(f"name = '{name}'")


def test_the_student_is_registered_and_predicts_what_it_predicts(published, finished_run, tmp_path):
    """In a process of its own, because pyfunc finds the store by a global setting."""
    folder, tracking = published
    test = finished_run / "data/test.extxyz"
    code = (
        "import json, sys; from pathlib import Path; import ase.io, mlflow, pandas, torch\n"
        "uri, test, out = sys.argv[1:]\n"
        "mlflow.set_tracking_uri(uri)\n"
        "import ipip_ext.backends.mace.backend\n"  # e3nn loads constants of its own
        "torch.load = None\n"
        "model = mlflow.pyfunc.load_model('models:/tiny/1')\n"
        "text = Path(test).read_text()\n"
        "tables = [model.predict(pandas.DataFrame({'path': [test]})), model.predict([text, text]),\n"
        "          model.predict(pandas.DataFrame({'extxyz': [text]})),\n"
        "          model.unwrap_python_model().predict_structures(ase.io.read(test, ':')),\n"
        "          model.predict(model.input_example)]\n"
        "Path(out).write_text(json.dumps([table.to_dict('list') for table in tables]))\n"
        "assert [i.type.name for i in model.metadata.get_input_schema().inputs] == ['string']\n"
        "assert model.metadata.get_output_schema().input_names() == list(tables[0].columns)\n"
        "for wrong in ('nonsense', str(test)):\n"
        "    try: model.predict([wrong])\n"
        "    except Exception as error: assert 'no extended XYZ' in str(error), error\n"
        "    else: raise AssertionError(wrong)\n"
    )
    arguments = [sys.executable, "-c", code, tracking.uri, str(test), str(tmp_path / "out.json")]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    by_path, twice, by_text, by_atoms, example = json.loads((tmp_path / "out.json").read_text())
    frames = fr.read_structures(test)
    expected = load_potential(folder).compute(frames)
    assert by_path["n_atoms"] == [len(frame) for frame in frames]
    assert by_path["energy_eV"] == pytest.approx([p.energy_eV for p in expected], abs=1e-4)
    for forces, label in zip(by_path["forces_eV_per_A"], expected, strict=True):
        assert np.allclose(forces, label.forces_eV_per_A, atol=1e-4)
    assert by_text == by_path
    assert by_atoms == {**by_path, "input": list(range(len(frames)))}
    assert twice["input"] == [0] * len(frames) + [1] * len(frames)
    assert twice["energy_eV"] == pytest.approx(2 * by_path["energy_eV"], abs=1e-4)
    assert len(example["energy_eV"]) == 1


def test_what_is_registered_holds_no_pickle_and_names_what_it_needs(published):
    _, tracking = published
    (version,) = versions_of(tracking)
    place = Path(version.source.removeprefix("file://"))
    assert {path.name for path in (place / "artifacts").iterdir()} == {"student.json", "student.safetensors"}
    assert not [path for path in place.rglob("*") if path.suffix in {".pkl", ".model", ".pt"}]
    needed = (place / "requirements.txt").read_text().split()
    assert [line.split("==")[0] for line in needed] == ["mlflow", "ipip-mace"]
    runs = all_runs(tracking)
    assert version.run_id == runs["tiny"].info.run_id
    (output,) = runs["tiny"].outputs.model_outputs
    logged = connect(tracking).get_logged_model(output.model_id)
    assert (logged.status, logged.artifact_location) == ("READY", version.source)


def test_a_student_makes_one_version_and_another_the_next(published, tmp_path):
    folder = shutil.copytree(published[0], tmp_path / "tiny")
    shutil.copy(published[0].parents[1] / "mlflow.db", tmp_path)
    tracking = Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db")
    (folder / "tracking.json").unlink(missing_ok=True)
    assert replay(folder, tracking) > 0
    assert len(versions_of(tracking)) == 1
    with (folder / "model/student.json").open("a") as file:
        file.write("\n")
    (folder / "tracking.json").unlink()
    replay(folder, tracking.model_copy(update={"register_model": False}))
    assert len(versions_of(tracking)) == 1
    (folder / "tracking.json").unlink()
    replay(folder, tracking)
    assert {int(version.version) for version in versions_of(tracking)} == {1, 2}


def test_a_folder_without_a_student_registers_nothing(folder, tracking):
    emit(folder, [*make_events(folder), Event("artifact", "model", "model")])
    (folder / "model").mkdir()
    (folder.parent / "student.json").write_text("secret")
    (folder / "model/student.json").symlink_to(folder.parent / "student.json")
    replay(folder, tracking)
    assert not versions_of(tracking, "mos2")


def test_inputs_are_datasets_with_our_hashes(published, finished_run):
    _, tracking = published
    test = finished_run / "data/test.extxyz"
    for run in all_runs(tracking).values():
        inputs = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
        assert set(inputs) == {"train", "test", "starts"}
        assert inputs["test"].name == "test.extxyz"
        assert json.loads(inputs["test"].profile) == {"sha256": sha256(test)}
        assert sha256(test).startswith(inputs["test"].digest)
        assert json.loads(inputs["test"].source)["uri"].endswith("data/test.extxyz")
