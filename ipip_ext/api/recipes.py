"""Recipes: from a file, a new one to begin with, what may stand in one, and whether it may be run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ipip_ext.api.said import log
from ipip_ext.errors import RecipeError, UserError
from ipip_ext.recipe import file, reference, yaml_core
from ipip_ext.recipe.given import Origin, of_keywords
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.teachers import trust

_END = "...\n"
"""What YAML sets below a value that stands alone."""


def load_recipe(path: str | Path, *sets: str, **overrides: Any) -> Recipe:
    """Read a recipe; paths in it are taken relative to its folder.

    sets: `"finetune.lr=0.002"`, as `--set` takes them. overrides: the same as keywords, with two underscores for a
    dot and a value of Python: `finetune__lr=0.002`. Either puts a value in the place of the recipe's.
    Raises RecipeError with file, key and remedy.
    """
    return file.load_recipe(Path(path), [*sets, *as_sets(overrides)])


def as_sets(overrides: Mapping[str, Any]) -> list[str]:
    """Return keywords as `--set` takes them. Raises RecipeError for a value that no recipe can hold."""
    return [f"{dotted(key)}={in_yaml(key, value)}" for key, value in overrides.items()]


def dotted(key: str) -> str:
    """Return a recipe key as recipes name it."""
    return key.replace("__", ".")


def in_yaml(key: str, value: Any) -> str:
    """Return a value of Python in a line of YAML. key: whose it is. Raises RecipeError if no recipe can hold it."""
    where = dotted(key)
    try:
        plain = of_keywords({where: value}, Origin(where, Path()))[where]
        text = yaml_core.write(plain, default_flow_style=True, width=10_000)
    except yaml.YAMLError:
        raise RecipeError(
            f"{where}: {type(value).__name__} can't stand in a recipe; give numbers, text, lists or mappings."
        ) from None
    return text.removesuffix(_END).strip()


def write_starter(path: str | Path = "recipe.yaml") -> Path:
    """Write a recipe that has every key, each explained, and return its path; only names of files are to be set.

    Raises UserError if `path` is there already or can't be written.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path}: is there already; name another file.")
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist; make it first.")
    try:
        path.write_text(reference.commented(reference.STARTER), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); name another place.") from None
    return path


def recipe_schema() -> str:
    """Return the JSON schema of recipes, for editors."""
    return file.json_schema()


def recipe_reference() -> str:
    """Return the reference of every recipe key as Markdown."""
    return reference.reference()


def admitted(recipe: Recipe | str | Path, *, trusted: bool) -> Recipe:
    """Return the recipe, read if it is a path, which this user may run; tell which pickled models it will load.

    Raises RecipeError if it is another user's, can run code, and is not `trusted`.
    """
    found = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    for finding in trust.require(found, trusted=trusted):
        if finding.sha256 is not None:
            log.warning("%s", finding)
    return found
