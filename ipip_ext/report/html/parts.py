"""The pieces of a page. Whatever is `Html` is escaped; plain strings become so through `text` alone."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NewType

from ipip_ext.run.printable import printable

Html = NewType("Html", str)

_STYLE = """
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #1d2733;
  background: #fff; max-width: 1240px; margin: 0 auto; padding: 1.5rem 1.5rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem;
  border-bottom: 1px solid #d8dee6; padding-bottom: .2rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
nav { font-size: .9rem; margin: .6rem 0 1rem; } nav a { margin-right: .9rem; } a { color: #1f5fa8; }
.verdict { background: #f2f6fb; border-left: 4px solid #1f5fa8; padding: .7rem 1rem; }
.verdict p { font-size: 1.15rem; font-weight: 600; margin: 0; } .verdict ul { margin: .5rem 0 0; padding-left: 1.2rem; }
.warning { background: #fff4e0; border-left: 4px solid #d98300; padding: .5rem 1rem; margin: .6rem 0; }
h1, h2, h3, li, p { overflow-wrap: anywhere; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; margin: .4rem 0; }
th, td { padding: .22rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #eceff3;
  font-variant-numeric: tabular-nums; } th { border-bottom: 1px solid #8d99a8; font-weight: 600;
  white-space: normal; vertical-align: bottom; }
th.l, td.l { text-align: left; } tr.strong td { font-weight: 600; background: #f2f6fb; }
table.dense { font-size: .76rem; } table.dense th, table.dense td { padding: .2rem .36rem; }
td.good { color: #176b3a; } td.bad { color: #a8321f; } td.same { color: #5b6673; }
td.good::before { content: "\\25BC\\00A0"; } td.bad::before { content: "\\25B2\\00A0"; }
p.note, figcaption { color: #5b6673; font-size: .86rem; margin: .3rem 0; }
figure { margin: .8rem 0; } img { max-width: 100%; height: auto; }
.frames { display: flex; flex-wrap: wrap; gap: 1rem; } .frames figure { width: 360px; max-width: 100%; margin: 0; }
pre { font-size: .8rem; background: #f7f8fa; padding: .8rem; overflow-x: auto; } code { overflow-wrap: anywhere; }
.bar { background: #9dbbe0; height: .7rem; display: block; } details > summary { cursor: pointer; margin: .4rem 0; }
@media (max-width: 640px) { body { padding: .8rem .8rem 2rem; } .verdict p { font-size: 1rem; }
  table, table.dense { font-size: .74rem; } th, td { padding: .2rem .3rem; white-space: normal; } }
@media print { @page { size: A4; margin: 11mm; } nav { display: none; }
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  h1, h2, h3, summary, p.note { break-after: avoid; } figure, tr, .verdict { break-inside: avoid; }
  .wide { overflow: visible; } table { font-size: 7.5pt; } table.dense { font-size: 6pt; }
  th, td, table.dense th, table.dense td { padding: .1rem .22rem; white-space: normal; min-width: 0; }
  th { overflow-wrap: anywhere; } pre { white-space: pre-wrap; }
  details::details-content { content-visibility: visible; height: auto; } }
"""

_MOST_COLUMNS = 9
"""Of more columns the type is smaller, so that all are on a page."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser too is told to load nothing and to run nothing."""


def text(value: object) -> Html:
    """Return `value` as text that means nothing to a browser."""
    return Html(escape(printable(value), quote=True))


def join(*inner: Html) -> Html:
    """Return the pieces one after the other."""
    return Html("\n".join(inner))


def element(tag: str, *inner: Html, **attributes: str) -> Html:
    """Return an element; `class_` stands for class."""
    named = "".join(f' {key.rstrip("_")}="{text(value)}"' for key, value in attributes.items())
    return Html(f"<{tag}{named}>{''.join(inner)}</{tag}>")


def paragraph(words: str, class_: str = "") -> Html:
    """Return plain text as a paragraph."""
    return element("p", text(words), class_=class_) if class_ else element("p", text(words))


def preformatted(words: str) -> Html:
    """Return plain text with its lines and spaces as they stand."""
    return element("pre", text(words))


def notes(lines: Sequence[str]) -> Html:
    """Return small print, a line each."""
    return join(*(paragraph(line, "note") for line in lines))


def table(
    lines: Sequence[Sequence[str]], left: int = 1, strong: Sequence[int] = (),
    classes: Mapping[tuple[int, int], str] | None = None,
) -> Html:  # fmt: skip
    """Return a table of plain text whose first line is its head.

    left: columns that are set left. strong: lines to stress, counted without the head. classes: of cells, by line
    and column, counted likewise.
    """
    marks = classes or {}

    def cell(tag: str, row: int, column: int, said: str) -> Html:
        names = " ".join(name for name in ("l" if column < left else "", marks.get((row, column), "")) if name)
        return element(tag, text(said), **({"class_": names} if names else {}))

    head = element("tr", *(cell("th", -1, i, said) for i, said in enumerate(lines[0])))
    body = [
        element(
            "tr", *(cell("td", row, i, said) for i, said in enumerate(line)),
            **({"class_": "strong"} if row in strong else {}),
        )
        for row, line in enumerate(lines[1:])
    ]  # fmt: skip
    dense = {"class_": "dense"} if len(lines[0]) > _MOST_COLUMNS else {}
    return element("div", element("table", element("thead", head), element("tbody", *body), **dense), class_="wide")


def bars(lines: Sequence[Sequence[str]], shares: Sequence[float | None], left: int = 1) -> Html:
    """Return a table whose lines end with a bar, as long as the share 0..1 says; None: no bar."""
    bodies = [
        element(
            "tr", *(element("td", text(said), class_="l" if i < left else "r") for i, said in enumerate(line)),
            element("td", element("span", class_="bar", style=f"width:{200 * (share or 0):.0f}px"), class_="l"),
        )
        for line, share in zip(lines[1:], shares, strict=True)
    ]  # fmt: skip
    head = element(
        "tr", *(element("th", text(said), class_="l" if i < left else "r") for i, said in enumerate(lines[0]))
    )
    return element("div", element("table", element("thead", head), element("tbody", *bodies)), class_="wide")


def picture(uri: str, what: str, caption: str = "") -> Html:
    """Return an image. uri: of `data_uri`. what: for those who can't see it."""
    image = Html(f'<img src="{text(uri)}" alt="{text(what)}">')
    return element("figure", image, *([element("figcaption", text(caption))] if caption else []))


def data_uri(data: bytes, kind: str) -> str:
    """Return an image's bytes as the address of itself; kind: png or svg+xml."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def png(path: Path) -> str:
    """Return a PNG file as the address of itself."""
    return data_uri(path.read_bytes(), "png")


def folded(title: str, *inner: Html) -> Html:
    """Return pieces that show when their title is clicked."""
    return element("details", element("summary", text(title)), *inner)


def page(title: str, under: str, top: Html, sections: Mapping[str, Html]) -> Html:
    """Return the whole document. under: a line below the title. top: before all sections, which have titles."""
    shown = {name: inner for name, inner in sections.items() if inner}
    links = [element("a", text(name), href=f"#s{i}") for i, name in enumerate(shown)]
    bodies = [
        element("section", element("h2", text(name)), inner, id=f"s{i}")
        for i, (name, inner) in enumerate(shown.items())
    ]
    head = join(
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", text(title)),
        element("style", Html(_STYLE)),
    )
    body = join(element("h1", text(title)), paragraph(under, "note"), top, element("nav", *links), *bodies)
    return Html(f'<!doctype html>\n<html lang="en"><head>\n{head}\n</head>\n<body>\n{body}\n</body></html>\n')
