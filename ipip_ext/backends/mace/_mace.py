"""Import mace with its side effects undone.

`import mace` must come before any import of e3nn, announces optional packages on the root
logger, and switches safe loading off for every later `torch.load` of the process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch

_UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    before = os.environ.get(_UNSAFE)
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if before is None:
            os.environ.pop(_UNSAFE, None)


with _contained():
    import mace  # noqa: F401
    from e3nn import o3
    from mace import modules

__all__ = [
    "default_dtype",
    "extract_config",
    "foundations",
    "modules",
    "o3",
    "select_head",
    "torchsim_model",
]


def foundations() -> Any:
    """Return `mace.calculators.foundations_models`.

    Imported only here and only when asked for, so that a user who imports `mace.calculators` later in
    the same process gets it as MACE means it.
    """
    with _contained():
        from mace.calculators import foundations_models
    return foundations_models


def extract_config(module: torch.nn.Module) -> dict[str, Any]:
    """Return the arguments that a MACE was built with, by `mace.tools.scripts_utils`, imported when asked for."""
    with _contained():
        from mace.tools.scripts_utils import extract_config_mace_model
    found: dict[str, Any] = extract_config_mace_model(module)
    return found


def torchsim_model(module: torch.nn.Module, device: torch.device, dtype: torch.dtype, stress: bool) -> Any:
    """Return `mace.calculators.mace_torchsim`'s model around `module`; imported when asked for, as foundations are."""
    with _contained():
        from mace.calculators.mace_torchsim import MaceTorchSimModel
    return MaceTorchSimModel(module, device=device, dtype=dtype, compute_stress=stress, head=0)


def select_head(module: torch.nn.Module, head: str) -> torch.nn.Module:
    """Return one head of a multi-head MACE as an ordinary model, by `mace.tools.scripts_utils`."""
    with _contained():
        from mace.tools.scripts_utils import remove_pt_head
    with _contained(), default_dtype(next(module.parameters()).dtype):
        found: torch.nn.Module = remove_pt_head(module, head)
    return found


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype for a while; mace builds everything in it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
