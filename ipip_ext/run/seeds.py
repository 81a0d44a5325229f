"""Seeds derive from the recipe's one seed and from what they are for."""

from __future__ import annotations

import hashlib


def derive(seed: int, *purpose: object) -> int:
    """Return a seed below 2**31 for `purpose`, the same on every machine and in every process."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
