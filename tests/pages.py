"""Sections of pages in docs/ that scripts write."""

from __future__ import annotations

from pathlib import Path


def write_section(page: Path, title: str, body: str) -> None:
    """Put `body` under the heading `title` of `page`, in place of what stands there, or at its end."""
    head, _, rest = page.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    _, mark, after = rest.partition("\n## ")
    page.write_text(f"{head.rstrip()}\n\n## {title}\n\n{body.strip()}\n{mark}{after}", encoding="utf-8")
