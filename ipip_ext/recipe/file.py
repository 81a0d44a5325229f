"""Read, override, write and describe recipe files."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ipip_ext.errors import RecipeError, did_you_mean
from ipip_ext.recipe import students
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.schema import explain


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
    _check_values(raw, where)
    raw = _absolute(raw, root)
    student = raw.get("student", {})
    if not isinstance(student, dict):
        raise RecipeError(f"{where}: student: must be a section with keys such as hidden_irreps.")
    try:
        config = students.config_class(str(student.get("backend", "mace")))
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    try:
        raw["student"] = config.model_validate(student)
    except ValidationError as error:
        raise explain(error, config, f"{where}: student") from None
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise explain(error, Recipe, where) from None
    recipe._folder, recipe._file = root, where
    return recipe


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


_LONGEST = 1000
"""Characters of a value; no path, name or number needs more."""


def _check_values(raw: dict[str, Any], where: str) -> None:
    """Raise RecipeError for what no key takes and some would choke on; aliases are followed once."""
    seen: set[int] = set()
    ahead: list[tuple[str, Any, frozenset[int]]] = [("", raw, frozenset())]
    while ahead:
        key, value, above = ahead.pop()
        if id(value) in above:
            raise RecipeError(f"{where}: {key}: is an alias of what it stands in; write it out.")
        if isinstance(value, str) and ("\0" in value or len(value) > _LONGEST):
            raise RecipeError(f"{where}: {key}: holds a NUL or more than {_LONGEST} characters; shorten it.")
        if isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            ahead += [(f"{key}.{name}".lstrip("."), one, above | {id(value)}) for name, one in inner]


_PATHS = (
    "data.train", "data.test", "data.valid", "explore.starts", "sample.starts", "evaluate.stability.starts",
    "evaluate.properties.starts", "evaluate.properties.strained", "evaluate.properties.trajectory",
)  # fmt: skip


def _absolute(raw: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return a copy of `raw` in which the paths of `_PATHS` and model files are absolute."""
    raw = copy.deepcopy(raw)
    for path in _PATHS:
        *sections, key = path.split(".")
        holder: Any = raw
        for section in sections:
            holder = holder.get(section) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and isinstance(holder.get(key), str):
            holder[key] = str((root / holder[key]).resolve())
    teacher = raw.get("teacher")
    if isinstance(teacher, dict):
        for key in ("mace", "chgnet"):
            file = root / str(teacher.get(key, ""))
            if key in teacher and file.is_file():
                teacher[key] = str(file.resolve())
    baselines = raw.get("baselines")
    for baseline in baselines if isinstance(baselines, list) else ():
        if isinstance(baseline, dict) and isinstance(baseline.get("replay"), str):
            baseline["replay"] = str((root / baseline["replay"]).resolve())
    return raw
