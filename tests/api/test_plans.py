"""A plan is a value that prints as `ipip-mace check`, shows in a notebook, and costs no file."""

from __future__ import annotations

from pathlib import Path

import pytest
from alloy import cell, contents, label, write_recipe
from click.testing import CliRunner

from ipip_ext import Recipe, check, errors
from ipip_ext.check.planning import Plan
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr


def told(text: str) -> list[str]:
    """Return lines without their times, which differ from call to call."""
    return [line.split(", ")[0][:36] for line in text.splitlines()]


def test_it_is_what_the_command_line_prints(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_recipe(tmp_path, alloy_data)
    before = contents(tmp_path)
    plan = check(path, progress=False)
    printed = CliRunner().invoke(main, ["check", "recipe.yaml"], catch_exceptions=False).stdout
    assert told(str(plan)) == told(printed)
    assert plan.device == "cpu"
    assert plan.cautions == []
    assert sum(plan.seconds.values()) > 0
    assert "rough cost on this machine (cpu)" in plan._repr_html_()
    assert contents(tmp_path) == before


def test_doubts_are_told_and_kept(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    frames = [cell(seed) for seed in range(12)]
    for atoms in frames:
        atoms.symbols[(atoms.symbols == "Cu").argmax()] = "H"
    fr.write_frames(Path("train.extxyz"), [label(atoms, start=f"s{i % 2}") for i, atoms in enumerate(frames[:8])])
    fr.write_frames(Path("test.extxyz"), [label(atoms, start="s2") for atoms in frames[8:11]])
    fr.write_frames(Path("starts.extxyz"), frames[11:])
    plan = check(write_recipe(tmp_path, Path()), progress=False)
    (caution,) = plan.cautions
    assert "explore: steps of 1 fs with hydrogen" in caution
    assert caplog.messages[-1] == f"warning: {caution}"
    assert caution not in str(plan)
    assert "with hydrogen" in plan._repr_html_()


def test_whatever_it_holds_is_text():
    plan = Plan(["<b>data</b>"], {"<i>explore</i>": 3.0}, "cpu", ["<script>"])
    page = plan._repr_html_()
    assert not any(tag in page for tag in ("<b>", "<i>", "<script>"))
    assert "&lt;script&gt;" in page


def test_what_is_not_in_order_is_one_error(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.RecipeError, match="no such recipe"):
        check("nowhere.yaml")
    recipe = Recipe(
        name="x", teacher={"python": "ase.calculators.emt:EMT"}, data={"train": "no.extxyz", "test": "no.extxyz"},
        explore={"starts": str(alloy_data / "starts.extxyz")},
    )  # fmt: skip
    with pytest.raises(errors.DataError, match=r"no\.extxyz"):
        check(recipe, progress=False)
