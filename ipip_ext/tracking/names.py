"""Names that MLflow takes, another one for each name of ours: starts are called as their users' files are."""

from __future__ import annotations

import hashlib
import re

MAX_NAME = 250  # MLflow's limit on the length of a key
_MARK = 8  # hexadecimal digits of a hash


def name_of(text: str) -> str:
    """Return `text` if MLflow takes it for a key, else what is like it, with a hash of it.

    MLflow takes letters of any script, digits, blanks and `_-.:/`, up to 250 of them, and refuses what would lead
    elsewhere if it were a path (`..`, `a//b`, `/a`). The hash keeps names apart that are alike.
    """
    return _distinct(text, _like(text))


def flat_name_of(text: str) -> str:
    """Return the same without `/`, which MLflow's pages take for the end of a section's name."""
    return _distinct(text, _like(text.replace("/", "_")))


def model_name_of(text: str) -> str:
    """Return the same for a registered model, whose name may hold neither `/` nor `:`."""
    return _distinct(text, _like(re.sub("[/:]", "_", text)))


def _like(text: str) -> str:
    legal = re.sub(r"[^\w\-. :/]", "_", text) if text.strip() else "_"
    parts = [part if part.strip(".") else "_" * max(len(part), 1) for part in legal.split("/")]
    if parts[0].startswith(".."):
        parts[0] = "__" + parts[0][2:]
    return "/".join(parts)


def _distinct(text: str, taken: str) -> str:
    if taken == text and len(text) <= MAX_NAME:
        return text
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK]
    return f"{taken[: MAX_NAME - _MARK - 1]}-{mark}"
