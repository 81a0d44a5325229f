"""Where a run may begin: never where a user's recipe stands, and in no folder that no run has written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from alloy import assert_refused, contents, refused, write_recipe

from ipip_ext import admission
from ipip_ext.errors import WorkspaceError
from ipip_ext.recipe.file import dump_recipe, load_recipe
from ipip_ext.run.layout import EVENTS, RECIPE


@pytest.fixture
def here(tmp_path, alloy_data, monkeypatch) -> Path:
    """The folder of a recipe with notes of its user's."""
    monkeypatch.chdir(tmp_path)
    path = write_recipe(tmp_path, alloy_data, tracking__enabled=False)
    path.write_text(f"# my notes on this recipe\n{path.read_text()}")
    return tmp_path


@pytest.mark.parametrize("workdir", [".", "", "../here", "link"])
@pytest.mark.parametrize("name", ["recipe.yaml", "mine.yaml"])
def test_a_run_does_not_begin_in_the_folder_of_its_recipe(here, workdir, name):
    Path("recipe.yaml").rename(name)
    Path("link").symlink_to(here)
    workdir = workdir.replace("here", here.name)
    before = contents(here)
    said = f"error: {Path(workdir)}: is the folder of the recipe, not of a run; name another folder with --workdir."
    assert refused("run", name, "--workdir", workdir) == said
    assert refused("ablate", name, "--vary", "finetune.lr=0.1,0.2", "--workdir", workdir) == said
    assert contents(here) == before


def test_a_recipe_that_no_run_wrote_is_not_written_over(here, alloy_data):
    """Neither one that differs, nor one that is the same but for its user's notes; nor a plan of a grid."""
    folder = Path("other")
    folder.mkdir()
    shutil.copy("recipe.yaml", folder)
    assert_refused(("other/recipe.yaml: was written by no run",), "run", "recipe.yaml", "--workdir", "other")
    Path("grid").mkdir()
    shutil.copy("recipe.yaml", "grid/ablate.yaml")
    vary = ("--vary", "finetune.lr=0.1,0.2")
    assert_refused(("grid: is not empty",), "ablate", "recipe.yaml", *vary, "--workdir", "grid")


def test_a_run_that_was_killed_at_its_outset_goes_on(here):
    recipe, folder = load_recipe(Path("recipe.yaml")), Path("run")
    folder.mkdir()
    (folder / EVENTS).touch()
    admission.refuse_other(recipe, folder, ())
    (folder / RECIPE).write_text(dump_recipe(recipe))
    admission.refuse_other(recipe, folder, ())
    (folder / EVENTS).unlink()
    with pytest.raises(WorkspaceError, match="was written by no run"):
        admission.refuse_other(recipe, folder, ())


def test_the_recipe_of_a_run_folder_may_go_on_in_it(finished_run):
    folder = finished_run / "runs/tiny"
    admission.refuse_other(load_recipe(folder / RECIPE), folder, ())
