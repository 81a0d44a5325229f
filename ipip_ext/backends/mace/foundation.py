"""MACE foundation models, by file or by the names that mace_mp and mace_off know."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import torch

from ipip_ext.backends.known_models import verify_foundation
from ipip_ext.backends.mace._mace import foundations
from ipip_ext.backends.mace.files import load_native
from ipip_ext.errors import CalculatorError, did_you_mean

OFF = "mace_off:"


def load(name_or_file: str, device: str) -> torch.nn.Module:
    """Return the module of a `.model` file, a mace_mp name, or `mace_off:<size>`.

    Names are downloaded once into MACE's own cache. Raises CalculatorError if the name is unknown, or
    if it is neither cached nor reachable (then it says which file to put where), and ModelFileError, also for a
    cached file that is not the one released under its name: that is found before it is unpickled.
    """
    path = Path(name_or_file)
    module = load_native(path if path.is_file() else _fetch(name_or_file), device)
    heads = getattr(module, "heads", ["Default"])
    if len(heads) > 1:
        raise CalculatorError(
            f"mace: {name_or_file} has the heads {', '.join(heads)}; save the one you want with"
            " `mace_select_head` and name that file."
        )
    return module


def _fetch(name: str) -> Path:
    known = foundations()
    off = {OFF + size: url for size, url in known.mace_off_urls.items()}
    urls = {**known.mace_mp_urls, **off}
    if name not in urls:
        raise CalculatorError(
            f"mace: {name} is neither a file nor a foundation model's name.{did_you_mean(name, urls)}"
        )
    released_as = file = urls[name].rsplit("/", 1)[-1]
    if name not in off:  # mace_mp keeps letters, digits and underscores of a file's name; mace_off all
        file = "".join(c for c in file if c.isalnum() or c == "_")
    cached: Path = Path(known.get_cache_dir()) / file
    if not cached.is_file():
        _download(name, urls[name], cached)
    verify_foundation(released_as, cached)
    return cached


def _download(name: str, url: str, cached: Path) -> None:
    known = foundations()
    try:
        with contextlib.redirect_stdout(None):
            # by its address, since mace_off would unpickle what it has just downloaded
            os.replace(known.download_mace_mp_checkpoint(url), cached)
    except Exception as error:  # noqa: BLE001 - sockets, TLS and files each raise their own
        raise CalculatorError(
            f"mace: {name} can't be downloaded ({type(error).__name__}); fetch {url}"
            f" where there is a network and put it at {cached}."
        ) from None
