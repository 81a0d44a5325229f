"""What all of a Python process shares, put back as the caller had it.

A run sets torch's threads, libraries that it imports change warnings, environment and loggers, and calculators may do
anything; whoever calls from a notebook has work of their own to go on with. Signals see to themselves (`signals`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import threading
import warnings
from collections.abc import Iterator

import numpy as np

from ipip_ext.errors import UserError

_at_work = threading.RLock()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Let a with block do as it likes and put back what the process shares when it ends, however it ends.

    That is: the environment, the working directory, warning filters, loggers with their handlers and levels,
    matplotlib's settings, torch's threads and default dtype, and the random numbers of Python, numpy and torch.
    Raises UserError if another thread is in such a block, since the two would undo each other.
    """
    if not _at_work.acquire(blocking=False):
        raise UserError(
            "ipip_ext: another thread of this process is at work, and torch's settings are the whole process's; wait"
            " for it, or start this in a process of its own."
        )
    try:
        with _environment(), _loggers(), _figures(), _random_numbers(), _torch(), warnings.catch_warnings():
            yield
    finally:
        _at_work.release()


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    variables, folder = dict(os.environ), _working_directory()
    try:
        yield
    finally:
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        for name, value in variables.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        if folder is not None and _working_directory() != folder:
            os.chdir(folder)


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - a text to go back to
    except FileNotFoundError:  # it was deleted
        return None


@contextlib.contextmanager
def _loggers() -> Iterator[None]:
    named = logging.root.manager.loggerDict.values()
    known = [logging.root, *(one for one in named if isinstance(one, logging.Logger))]
    before = [(one, one.level, list(one.handlers), one.propagate, one.disabled) for one in known]
    disabled_below = logging.root.manager.disable
    try:
        yield
    finally:
        logging.disable(disabled_below)
        for one, level, handlers, propagate, disabled in before:
            one.handlers[:] = handlers
            one.setLevel(level)
            one.propagate, one.disabled = propagate, disabled


@contextlib.contextmanager
def _figures() -> Iterator[None]:
    """Keep matplotlib's settings, where it is imported. Plots have canvases of their own, so no backend is set."""
    if "matplotlib" not in sys.modules:
        yield
        return
    import matplotlib as mpl

    with mpl.rc_context():
        yield


@contextlib.contextmanager
def _random_numbers() -> Iterator[None]:
    import torch

    python, numbers, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - kept
    is_cuda_in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cards = torch.cuda.get_rng_state_all() if is_cuda_in_use else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)  # noqa: NPY002
        torch.set_rng_state(tensors)
        if cards:
            torch.cuda.set_rng_state_all(cards)


@contextlib.contextmanager
def _torch() -> Iterator[None]:
    import torch

    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
