"""MLflow's own pages."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from strangers import plant
from tracked import free_port

from ipip_ext.errors import UserError
from ipip_ext.recipe.tracking import Tracking
from ipip_ext.tracking.ui import run_url_hint, serve_ui


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
    port, ran = free_port(), plant(tmp_path)
    code = (
        "import sys; from ipip_ext.tracking.mirror import serve_ui\n"
        "sys.exit(serve_ui(sys.argv[1], '127.0.0.1', int(sys.argv[2])))"
    )
    with (tmp_path / "server.log").open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-P", "-c", code, tracking.uri, str(port)], cwd=tmp_path, stdout=out, stderr=out
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
    assert not ran.exists()  # MLflow's servers would import modules of the folder they are started in
    with pytest.raises(urllib.error.URLError):
        get(f"{base}/health")


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
