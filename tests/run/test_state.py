"""What a block changes of the process is put back, however it ends, and no two blocks meet."""

from __future__ import annotations

import logging
import os
import random
import threading
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

from ipip_ext.errors import UserError
from ipip_ext.run import state


def found() -> dict[str, object]:
    named = logging.getLogger("tests.state")
    return {
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "filters": list(warnings.filters),
        "root": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "named": (named.level, list(named.handlers), named.propagate, named.disabled),
        "figures": (mpl.rcParams["figure.dpi"], mpl.get_backend()),
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
    }


def disturb(folder: object) -> None:
    os.environ["IPIP_NEW"] = "1"
    os.environ["IPIP_CHANGED"] = "2"
    os.environ.pop("IPIP_GONE")
    os.chdir(folder)
    warnings.simplefilter("error")
    logging.disable(logging.ERROR)
    for logger in (logging.root, logging.getLogger("tests.state")):
        logger.setLevel(3)
        logger.addHandler(logging.NullHandler())
        logger.propagate, logger.disabled = False, True
    mpl.rcParams["figure.dpi"] = 7
    random.random()  # noqa: S311
    np.random.random()  # noqa: NPY002
    torch.rand(1)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def own_environment(monkeypatch):
    monkeypatch.setenv("IPIP_CHANGED", "1")
    monkeypatch.setenv("IPIP_GONE", "1")


@pytest.mark.usefixtures("own_environment")
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_all_is_as_it_was(tmp_path, error):
    before = found()
    if error is None:
        with state.kept():
            disturb(tmp_path)
    else:
        with pytest.raises(error), state.kept():  # noqa: PT012
            disturb(tmp_path)
            raise error
    after = found()
    assert [key for key in before if before[key] != after[key]] == []


def test_one_thread_at_a_time():
    inside, leave, told = threading.Event(), threading.Event(), []

    def stay() -> None:
        with state.kept():
            inside.set()
            leave.wait(60)

    other = threading.Thread(target=stay)
    other.start()
    inside.wait(60)
    try:
        with pytest.raises(UserError, match="another thread of this process is at work"), state.kept():
            told.append("never")
    finally:
        leave.set()
        other.join()
    with state.kept(), state.kept():  # the same thread may
        told.append("now")
    assert told == ["now"]
