"""The same recipe and seed give the same weights: bitwise with as many threads, up to rounding with others."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib, json, sys
from pathlib import Path
import torch
from ipip_ext.backends.base import FitData, FitJob
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.recipe.students import MaceConfig
from ipip_ext.backends.testing import E0S_EV, alloy
from ipip_ext.recipe.training import Fit

frames, backend, found = [alloy(seed, 2 - seed % 2) for seed in range(8)], MaceBackend(), []
for turn, threads in enumerate((1, 1, 2, 2)):
    torch.set_num_threads(threads)
    folder = Path(sys.argv[1]) / str(turn)
    model = backend.build(MaceConfig(), E0S_EV, frames, seed=1)
    result = backend.fit(model, FitData(frames[:6], frames[6:]), Fit(epochs=2, batch_size=3), FitJob(1, folder, "cpu"))
    backend.save(result.model, folder)
    weights = hashlib.sha256((folder / "student.safetensors").read_bytes()).hexdigest()
    found.append((torch.get_num_threads(), weights, dict(result.valid)))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_one_and_two_threads_repeat_themselves_and_each_other(tmp_path):
    """The default student on cells of 4 and 32 atoms: wide enough for torch to share out its work."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_"))}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert [threads for threads, *_ in found] == [1, 1, 2, 2]
    weights = [weights for _, weights, _ in found]
    assert (weights[0], weights[2]) == (weights[1], weights[3])
    # some BLAS libraries share out a sum, others don't, so that with other threads the last digits may be others
    assert found[2][2] == pytest.approx(found[0][2], rel=1e-3)
