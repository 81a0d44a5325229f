"""`--place` is `compute` of the recipe in a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from alloy import refused
from click.testing import CliRunner
from placed import on_cluster

from ipip_ext.cli.main import main
from ipip_ext.cli.options import at_place
from ipip_ext.recipe.file import load_recipe


@pytest.mark.parametrize("name", ["place.yaml", "our: #1 place.yaml", "no"])
def test_a_file_is_looked_for_where_one_is(here, task, name):
    """Not beside the recipe; and whatever its name is, as YAML would read it."""
    compute = load_recipe(Path("recipe.yaml"), at_place((), name)).compute
    assert (compute.place, compute.parsl) == ("parsl", here / name)


@pytest.mark.parametrize("place", ["here", "processes"])
def test_a_word_is_a_place(task, place):
    changed = load_recipe(Path("recipe.yaml"), at_place(("seed=5",), place))
    assert (changed.compute.place, changed.compute.parsl, changed.seed) == (place, None, 5)
    assert load_recipe(Path("recipe.yaml"), at_place((), None)).compute.place is None


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_place_that_cannot_be_is_refused_before_anything_is_written(task, command):
    said = refused(command, "recipe.yaml", "--place", "slurm.yml")
    assert f"{task / 'slurm.yml'}: can't be read (No such file or directory)" in said
    assert not Path("runs").exists()


def test_a_stage_that_is_sent_nowhere_is_refused(task):
    on_cluster(task, 1)
    said = refused("run", "recipe.yaml", "--place", "place.yaml", "--set", "compute.stages={ask: gpu}")
    assert "compute.stages.ask: " in said
    assert "has no executor gpu. Did you mean" in said or "has no executor gpu. Known: node." in said
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", ["check", "run", "ablate"])
def test_commands_offer_it(command):
    assert "--place" in CliRunner().invoke(main, [command, "--help"]).output
