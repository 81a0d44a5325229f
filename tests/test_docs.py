"""What README and docs show works as shown."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ipip_ext.cli.main import main
from ipip_ext.recipe.file import parse_recipe

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for number, body in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)):
            found.append((f"{page.name}-{number}", body))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("where", "code"), blocks("python"), ids=lambda value: value if "\n" not in value else "")
def test_python_blocks_run(where, code, finished_run, tmp_path, monkeypatch):
    """The finished tiny run stands in for the runs that the pages name, its recipe for theirs."""
    shutil.copytree(finished_run, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name in set(re.findall(r"runs/([\w.-]+)", code)) - {"tiny"}:
        shutil.copytree("runs/tiny", f"runs/{name}")
    shutil.copy("data/starts.extxyz", "my-structure.extxyz")
    shutil.copy("data/test.extxyz", "test.extxyz")
    exec(compile(code, where, "exec"), {"__name__": "__main__"})  # noqa: S102


@pytest.mark.parametrize(("where", "text"), blocks("yaml"), ids=lambda value: value if "\n" not in value else "")
def test_yaml_blocks_are_recipes(where, text):
    """A block without a name is sections of a recipe, to be added to one that works."""
    told = yaml.safe_load(text)
    base = {} if "name" in told else yaml.safe_load((ROOT / "recipes/minimal.yaml").read_text())
    assert parse_recipe({**base, **told}, where=where, root=ROOT / "recipes").name


@pytest.mark.parametrize(("where", "text"), blocks("bash"), ids=lambda value: value if "\n" not in value else "")
def test_commands_shown_exist(where, text):
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0] == "ipip-mace":
            assert words[1] in main.commands, line
            known = {option for param in main.commands[words[1]].params for option in param.opts}
            assert all(word.split("=")[0] in known for word in words[2:] if word.startswith("--")), line
        elif words[0].startswith("scripts/"):
            assert (ROOT / words[0]).is_file(), line


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_figures_of_the_results_are_drawn_from_their_tables(tmp_path):
    subprocess.run([sys.executable, ROOT / "scripts/plot_results.py", "--out", tmp_path], check=True)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == set(re.findall(r"figures/(\w+\.png)", (ROOT / "docs/results.md").read_text()))


def test_every_command_has_help():
    for name in main.commands:
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0
        assert main.commands[name].help
