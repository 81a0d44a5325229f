"""Read, override, write and describe recipe files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ipip_ext.errors import RecipeError, did_you_mean
from ipip_ext.recipe import students
from ipip_ext.recipe.given import Origin
from ipip_ext.recipe.recipe import Recipe


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; paths in it are taken relative to its folder.

    overrides: `key.sub=value` strings, the values read as YAML.
    Raises RecipeError with file, key and remedy.
    """
    raw = _read_yaml(path)
    for override in overrides:
        _override(raw, override)
    return parse_recipe(raw, where=str(path), root=path.resolve().parent)


def parse_recipe(raw: dict[str, Any], *, where: str, root: Path) -> Recipe:
    """Turn plain data into a Recipe; `where` starts each error, `root` is where paths start."""
    return Recipe.model_validate(raw, context=Origin(where, root))


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML with every key, defaults too."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=100)


def json_schema() -> str:
    """Return the JSON schema of recipes, for editors."""
    schema = Recipe.model_json_schema()
    settings = [students.config_class(name).model_json_schema() for name in students.names()]
    schema["properties"]["student"] = {"anyOf": settings}
    return json.dumps(schema, indent=2)


class _Strict(yaml.SafeLoader):
    """A SafeLoader that refuses a key that stands twice, of which YAML would silently take the last, or is no word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; raises ConstructorError with the line of the key."""
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value} stands twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise RecipeError(f"{path}: is a folder; name the recipe file in it.")
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; `ipip-mace init {path.name}` writes one.")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Strict)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise RecipeError(f"{path}: can't be read ({error.strerror}); check its permissions.") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not text; a recipe is a YAML file.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", "unreadable")
        raise RecipeError(f"{path}:{line} not YAML ({problem}); check the indent.") from None
    except RecursionError:
        raise RecipeError(f"{path}: is nested too deeply to be a recipe; check its brackets.") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: holds no keys; `ipip-mace init` writes a recipe to start from.")
    return raw


def _override(raw: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise RecipeError(f"--set {override}: must read key=value, such as finetune.lr=0.002.")
    *sections, last = key.split(".")
    here = raw
    for name in sections:
        inner = here.setdefault(name, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override}: {name} is not a section.{did_you_mean(name, raw)}")
        here = inner
    try:
        here[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"--set {override}: {text!r} is not a YAML value.") from None
