"""Text of strangers' files on its way to a terminal, a log or a page: seen, and obeyed by none of them."""

from __future__ import annotations

import re
from typing import Final

_COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, those that turn the direction of writing, and halves of characters."""


def printable(text: object) -> str:
    r"""Return `text` with its control characters written out, such as `\x1b`."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def one_line(text: object) -> str:
    """Return `text` as `printable` does, in one line."""
    return printable(" ".join(str(text).splitlines()))
