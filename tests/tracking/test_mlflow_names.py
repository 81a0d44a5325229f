"""Names of ours that MLflow would not take, or would take for one another."""

from __future__ import annotations

import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils import validation
from tracked import all_runs, count_lines, emit, make_events, row

from ipip_ext.run.events import Event
from ipip_ext.tracking import entries
from ipip_ext.tracking.mirror import MlflowMirror, replay
from ipip_ext.tracking.names import MAX_NAME, flat_name_of, model_name_of, name_of

STARTS = ["../structures/ni.cif", "a//b", "..", "/a", "a/./b", "=1+1", "@x", "\x1b[31mred", "β-Ni", "γ-Ni",
          "β\u0302-Ni", "_-Ni", " ", "", "x" * 300, "x" * 301, "\ud800", "a\nb", "a/b", "a_b", "a:b"]  # fmt: skip
TEXTS = st.text(st.characters() | st.sampled_from("./=@_-: \n\x1b"), max_size=300)


def is_taken(name):
    """Return whether MLflow takes a name for a key, by its own rules."""
    try:
        validation._validate_param_name(name)
    except MlflowException:
        return False
    return bool(name.strip()) and len(name) <= MAX_NAME and "\n" not in name


@given(TEXTS)
@example("..")
@example("..x")
@example("a/../..")
@example("\n")
def test_mlflow_takes_every_name(text):
    assert is_taken(name_of(text))
    assert is_taken(flat_name_of(text))
    assert "/" not in flat_name_of(text)
    validation._validate_model_name(model_name_of(text))
    name_of(text).encode()


@given(TEXTS)
def test_a_name_that_mlflow_takes_stays(text):
    if is_taken(text):
        assert name_of(text) == text


@given(TEXTS, TEXTS)
def test_two_names_never_become_one(one, other):
    if one != other:
        for of in (name_of, flat_name_of, model_name_of):
            assert of(one) != of(other)


def test_starts_called_as_their_files_are_each_have_a_metric(folder, tracking, caplog):
    first, *_, last = make_events(folder)
    metrics = {f"test_force_mae_start_{start}_meV_per_A": float(n) for n, start in enumerate(STARTS)}
    one = Event("row", "scratch", data={"role": "baseline", "stage": "baseline-scratch", "metrics": metrics})
    emit(folder, [first, one, row("student", "ipip", "", 1), last], MlflowMirror(folder, tracking, "mos2"))
    assert not caplog.records
    stored = all_runs(tracking)["scratch"].data.metrics
    found = {key: value for key, value in stored.items() if key.startswith("work.detail.")}
    assert sorted(found.values()) == [float(n) for n in range(len(STARTS))]
    assert found["work.detail.test_force_mae_start_β-Ni_meV_per_A"] == STARTS.index("β-Ni")
    assert replay(folder, tracking) == 0


@pytest.mark.parametrize("name", ["a/b", "it's", "..", "x:1"])
def test_a_model_of_any_name_is_looked_for_and_registered(name, folder, tracking, caplog):
    emit(folder, [Event("run", "started", data={"recipe": {"name": name}}), Event("artifact", "model", "model")])
    (folder / "model").mkdir()
    (folder / "model/student.json").write_text("{}")
    replay(folder, tracking)
    assert [model.name for model in registered(tracking)] == [model_name_of(name)]


def registered(tracking):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking.uri).search_registered_models()


def test_what_mlflow_refuses_all_the_same_costs_itself_alone(folder, tracking, caplog, monkeypatch):
    monkeypatch.setattr(entries, "flat_name_of", lambda text: text)
    events = make_events(folder)
    events[0].data["recipe"]["data.train"] = "x" * 501  # more than a dataset's name may have
    events[0].data["data_sha256"] = {"train": "abc"}
    odd = Event("metric", "a@\x1bb", 1.0, "iter-00/finetune", 0)
    emit(folder, [*events[:20], odd, *events[20:]])
    assert replay(folder, tracking) == count_lines(folder)
    runs = all_runs(tracking)
    assert runs["mos2"].info.status == "FINISHED"
    assert len(runs["iteration 0"].data.metrics) == 3 + 2 * 2
    refused = [r.message for r in caplog.records if r.levelno == logging.WARNING and "does not take" in r.message]
    assert len([line for line in refused if "the metric work.finetune.a@\\x1bb" in line]) == 1
    assert len([line for line in refused if "inputs" in line]) == 1 + 4  # of the parent and each child
    assert not any("\x1b" in line or "\n" in line for line in refused)
