"""Read, override, write and describe recipe files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ipip_ext.errors import RecipeError
from ipip_ext.recipe import students, yaml_core
from ipip_ext.recipe.given import Origin
from ipip_ext.recipe.overrides import override, put
from ipip_ext.recipe.recipe import Recipe


def load_recipe(path: Path, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe; paths in it are taken relative to its folder.

    overrides: `key.sub=value` strings, the values read as YAML. values: by dotted key, set after these.
    Raises RecipeError with file, key and remedy.
    """
    raw = _read_yaml(path)
    for text in overrides:
        override(raw, text)
    for key, value in (values or {}).items():
        put(raw, key, value, f"--vary {key}")
    return parse_recipe(raw, where=str(path), root=path.resolve().parent)


def parse_recipe(raw: dict[str, Any], *, where: str, root: Path) -> Recipe:
    """Turn plain data into a Recipe; `where` starts each error, `root` is where paths start."""
    return Recipe.model_validate(raw, context=Origin(where, root))


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML with every key, defaults too."""
    return yaml_core.write(recipe.model_dump(mode="json"), width=100)


def json_schema() -> str:
    """Return the JSON schema of recipes, for editors."""
    schema = Recipe.model_json_schema()
    settings = [students.config_class(name).model_json_schema() for name in students.names()]
    schema["properties"]["student"] = {"anyOf": settings}
    return json.dumps(schema, indent=2)


def read_own(text: str) -> Any:
    """Return what a run's own recipe.yaml holds, whichever version wrote it. Raises NotYaml.

    Until 0.1.0 it was written as YAML 1.1, in which 1e-3 is a word. What is written today reads alike in both.
    """
    return yaml_core.read(text, as_before=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise RecipeError(f"{path}: is a folder; name the recipe file in it.")
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; `ipip-mace init {path.name}` writes one.")
    try:
        raw = _read_text(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: can't be read ({error.strerror}); check its permissions.") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not text; a recipe is a YAML file.") from None
    except yaml_core.NotYaml as error:
        line = "" if error.line is None else f" line {error.line}:"
        raise RecipeError(f"{path}:{line} {error.problem}.") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: holds no keys; `ipip-mace init` writes a recipe to start from.")
    return raw


def _read_text(text: str) -> Any:
    """Read a user's recipe as YAML 1.2, and what a run of the older version has written as that meant it."""
    raw = yaml_core.read(text)
    then = read_own(text)
    if raw == then:
        return raw
    body = "\n".join(itertools.dropwhile(lambda line: line.startswith("#"), text.split("\n")))  # a grid's has a head
    is_ours = isinstance(then, dict) and then.keys() >= _OF_ANY_RUN
    return then if is_ours and body == yaml.safe_dump(then, sort_keys=False, width=100) else raw


_OF_ANY_RUN = frozenset({"name", "seed", "device", "threads", "iterations", "data", "teacher", "student", "sample"})
"""Some of the keys that a run writes, all of them, whatever the user gave."""
