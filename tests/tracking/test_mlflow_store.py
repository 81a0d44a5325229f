"""Where the store is."""

from __future__ import annotations

from ipip_ext.tracking.store import store_name


def test_store_is_named_relative_to_the_run_folder(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "a"
    monkeypatch.chdir(tmp_path)
    assert store_name("sqlite:///mlflow.db", run) == "sqlite:../../mlflow.db"
    assert store_name("http://host:5000", run) == "http://host:5000"
