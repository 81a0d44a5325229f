"""A disk that is full or read-only: one clear line, nothing finished is lost, and once mended the run goes on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from alloy import write_recipe

pytestmark = pytest.mark.slow

SMALL = {
    "iterations": 1, "tracking__enabled": False, "baselines": [], "evaluate__speed_supercell": [1, 1, 1],
    "evaluate__speed_steps": 1, "pretrain__epochs": 1, "finetune__epochs": 1,
}  # fmt: skip
LIMITED = (
    "import resource, sys; limit = int(sys.argv.pop(1)); resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit));"
    "from ipip_ext.cli.main import main; main()"
)


def lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize(("limit", "stage"), [(6_000, "prepare"), (14_000, "pretrain")])
def test_a_file_that_may_not_grow(tmp_path, alloy_data, limit, stage):
    """The data do not fit, or the checkpoint that torch writes."""
    write_recipe(tmp_path, alloy_data, **SMALL)
    command = [sys.executable, "-c", LIMITED, str(limit), "run", "recipe.yaml"]
    stopped = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert stopped.returncode == 2, stopped.stderr
    (said,) = lines(stopped.stderr)
    assert re.search(r"runs/tiny(/events\.jsonl)?: can't be written \(", said)
    assert "all finished stages are intact" in said
    assert "Traceback" not in stopped.stderr
    run = tmp_path / "runs/tiny"
    assert list(run.rglob(f"{stage}.part"))
    finished = {path: path.read_bytes() for path in run.rglob("stage.json") if ".part" not in str(path)}
    whole = subprocess.run([*command[:3], str(10**9), *command[4:]], cwd=tmp_path, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    assert all(path.read_bytes() == content for path, content in finished.items())


SCRIPT = """
mount -t tmpfs -o size=64k none runs || exit 77
ipip() { "$PYTHON" -m ipip_ext.cli run recipe.yaml > said 2>&1; echo "$? $(grep ^error: said)"; }
ipip
mount -o remount,size=4g,ro runs
ipip
mount -o remount,rw runs
ipip
"""


def test_a_full_and_a_read_only_file_system(tmp_path, alloy_data):
    write_recipe(tmp_path, alloy_data, **SMALL)
    (tmp_path / "runs").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", SCRIPT.replace("$PYTHON", sys.executable)],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no file system may be mounted here")
    full, read_only, whole = done.stdout.splitlines()
    assert full.startswith("2 error: ")
    assert "make room" in full  # MD looks at the disk before it writes
    assert read_only.startswith("2 error: ")
    assert "Read-only file system" in read_only
    assert whole.strip() == "0", Path(tmp_path / "said").read_text()
