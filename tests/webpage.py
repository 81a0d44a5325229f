"""Pages that are opened, as a browser without a network does."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page taken apart; fails where its tags don't match."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.cells: list[list[str]] = []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open or not self.open:
            return
        self.words.append(data)
        if self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def images(self) -> list[bytes]:
        found = []
        for tag, attributes in self.tags:
            if tag == "img":
                assert attributes["alt"]
                kind, data = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.*)", attributes["src"]).groups()
                found.append(base64.b64decode(data, validate=True))
                if kind == "png":
                    assert found[-1].startswith(b"\x89PNG")
                else:
                    ET.fromstring(found[-1])  # noqa: S314 - our own
        return found


def opened(path: Path) -> Page:
    """Read a page and check that it needs nothing but itself."""
    source = path.read_text(encoding="utf-8")
    page = Page(source)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        for name in {"src", "href", "srcset", "action"} & attributes.keys():
            assert attributes[name].startswith(("#", "data:image/"))
    assert "@import" not in source
    assert "url(" not in source
    assert "default-src 'none'" in source
    return page
