"""Tables: formulas of strangers are words in a spreadsheet, and our own readers get back what was written."""

from __future__ import annotations

import csv

import pytest

from ipip_ext.data.tables import Table, harmless, latex, read_csv, write_csv

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "'=1+1", "''-x", "-"]
PLAIN = ["Ni", "β-Ni", "'quoted'", "", "a=b", "-1.5", "+3e-4", "-inf", "../structures/ni.cif", "it00-md01"]


@pytest.mark.parametrize("word", FORMULAS + PLAIN)
def test_every_word_is_read_as_it_was(word, tmp_path):
    path = tmp_path / "t.csv"
    write_csv(path, [{"name": word, "value": -0.5}])
    assert read_csv(path) == [{"name": word, "value": "-0.5"}]
    with path.open(newline="") as file:
        (cell, number) = list(csv.reader(file))[1]
    assert number == "-0.5"
    assert cell == (f"'{word}" if word in FORMULAS else word)


def test_numbers_and_nothing_stay():
    assert [harmless(value) for value in (-1, -0.5, None, "-1e3", True)] == [-1, -0.5, None, "-1e3", True]


def test_control_characters_reach_no_table():
    lines = [["model", "F"], ["a\x1b[31m\nb", "1"]]
    assert str(Table(lines)).splitlines()[2] == r"a\x1b[31m b  1"
    assert "\x1b" not in latex(lines, 1)
