"""Files that MLflow gets."""

from __future__ import annotations

import logging

from tracked import connect, emit, make_events

from ipip_ext.run.events import Event
from ipip_ext.tracking.mirror import MlflowMirror, replay


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
