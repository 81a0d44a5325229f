"""Tables as text and as files."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipip_ext.run.printable import one_line


@dataclass(frozen=True)
class Table:
    """Cells as text, the first line being the head, and what is said below them. left: columns that are set left."""

    lines: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    left: int = 1

    def __str__(self) -> str:
        return "\n".join([aligned(self.lines, self.left), *self.notes])


def aligned(lines: Sequence[Sequence[str]], left: int) -> str:
    """Return the lines with columns of equal width and a rule below the first; `left` columns are set left."""
    lines = [[one_line(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])


def latex(lines: Sequence[Sequence[str]], left: int, notes: Sequence[str] = ()) -> str:
    """Return the lines as a tabular with the rules of booktabs, `left` columns set left; notes become comments."""
    n_columns = len(lines[0])
    body = [" & ".join(_tex(cell, is_name=i < left) for i, cell in enumerate(line)) + r" \\" for line in lines]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            *(f"% {' '.join(note.split())}" for note in notes),
            rf"\begin{{tabular}}{{{'l' * left}{'r' * (n_columns - left)}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "Å": r"\AA{}", **{sign: rf"\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def _tex(cell: str, *, is_name: bool) -> str:
    """Return a cell as TeX shows it; a dash for what is not there, and between the ends of an interval."""
    said = "".join(_TEX.get(sign, sign) for sign in one_line(" ".join(cell.split())))
    if is_name:
        return said
    return "--" if said == "-" else re.sub(r"(?<=\d)-(?=\d)", "--", said.replace(" +- ", r" $\pm$ "))


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table by the names in its head, none of an empty file; words as `write_csv` got them."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _as_was(value) for key, value in row.items()} for row in csv.DictReader(file)]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], header: Sequence[str] | None = None) -> None:
    """Write rows under `header`, or under all keys that any row has; without either an empty file.

    A word that a spreadsheet would run as a formula, such as =1+1, gets an apostrophe before it.
    """
    names = header or list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        if names:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({key: harmless(value) for key, value in row.items()} for row in rows)


_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet would run, or that looks as if it had been made harmless already."""


def harmless(value: Any) -> Any:
    """Return a cell for a CSV: a word that a spreadsheet would run gets an apostrophe, a number stays as it is."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def _as_was(cell: Any) -> Any:
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
