"""The recipe's documentation, made from its models: a reference page and a commented recipe."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ipip_ext.recipe import students, yaml_core
from ipip_ext.recipe.recipe import Recipe

STARTER: dict[str, Any] = {
    "name": "my-system",
    "data": {"train": "train.extxyz", "test": "test.extxyz"},
    "teacher": "chgnet",
    "explore": {"starts": "starts.extxyz"},
}
"""What `init` writes a recipe from: the keys without a default."""


_HEAD = """\
# Recipe reference

Made from the models in `ipip_ext/recipe/` by `ipip-mace schema --markdown`. Units stand in the names.
Paths are relative to the recipe file. Only `name`, `data.train`, `data.test`, `teacher` and
`explore.starts` have no default. A number outside of its range is refused.

A recipe is YAML 1.2: `true` and `false` alone are truth values (`yes`, `no`, `on` and `off` are words),
`010` is 10, `0o10` is 8, `1e-3` is a number, `1:20` is a word. What looks like a date must stand in quotes.
Anchors, aliases and merge keys (`<<`) work; tags such as `!!binary` don't.

`--set` and `--vary` take dotted keys. They reach into a list by index, or by name where entries have one:
`--set baselines.scratch.fit.epochs=50`, `--set explore.temperatures_K.0=300`."""

_LIKE = {
    "sample": "MD by the student. Its keys are those of `explore`. Without `starts` of its own, what is not given is as"
    " in `explore`; with `starts`, what is not given has `explore`'s defaults."
}
"""Sections that are like another one, in words."""


def reference() -> str:
    """Return the reference of every recipe key as Markdown."""
    parts = [_HEAD]
    sections: list[tuple[str, type[BaseModel]]] = [("", Recipe)]
    sections += [(f"student (backend: {name})", students.config_class(name)) for name in students.names()]
    while sections:
        title, model = sections.pop(0)
        if title in _LIKE:
            parts += ["", f"## {title}", "", _LIKE[title]]
            continue
        parts += ["", f"## {title or 'Top level'}", "", (model.__doc__ or "").strip(), ""]
        parts += ["| key | default | range | meaning |", "|---|---|---|---|"]
        ranges = model.model_json_schema()["properties"]
        for key, field in model.model_fields.items():
            parts.append(f"| `{key}` | {_default(field)} | {_range(ranges[key])} | {_prose(field)} |")
            inner = _section_of(field)
            sections += [(f"{title}.{key}".lstrip("."), m) for m in inner if m is not model]
    return "\n".join(parts) + "\n"


def commented(values: Mapping[str, Any]) -> str:
    """Return a recipe with every key: those of `values` as given, the rest at their defaults, all explained."""
    student = values.get("student") or {}
    models = {"student": students.config_class(student.get("backend", "mace"))}
    lines = [
        "# A recipe of ipip-mace with every key. Paths are relative to this file; units stand in the names.",
        "",
    ]
    lines += _commented(Recipe, values, models, indent="")
    return "\n".join(lines) + "\n"


def _commented(
    model: type[BaseModel], values: Mapping[str, Any], models: Mapping[str, type[BaseModel]], indent: str
) -> Iterator[str]:
    for key, field in model.model_fields.items():
        yield from (f"{indent}# {line}" for line in (field.description or "").splitlines())
        inner = [models[key]] if key in models else _section_of(field)
        value = values.get(key, _plain_default(field))
        if len(inner) == 1 and (isinstance(value, Mapping) or (value is None and not _optional(field))):
            yield f"{indent}{key}:"
            yield from _commented(inner[0], value or {}, {}, indent + "  ")
        else:
            yield f"{indent}{key}: {_inline(value)}"
        if not indent:
            yield ""


def _inline(value: Any) -> str:
    text = yaml_core.write(value, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("\n...").strip()


def _plain_default(field: FieldInfo) -> Any:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [v.model_dump(mode="json") if isinstance(v, BaseModel) else v for v in value]
    return value


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if _section_of(field) and not _optional(field):
        return "see below"
    return f"`{json.dumps(_plain_default(field))}`"


def _range(schema: Mapping[str, Any]) -> str:
    """Return the range of a number, or of the numbers in a list, by its JSON schema; of several the first."""
    low, high = (_end(schema, f"{end}imum", f"exclusive{end.capitalize()}imum") for end in ("min", "max"))
    if low or high:
        return f"{low} to {high}".strip()
    inner = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("prefixItems", ())]
    inner += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    return next(filter(None, map(_range, inner)), "")


def _end(schema: Mapping[str, Any], closed: str, opened: str) -> str:
    if closed in schema:
        return _number(schema[closed])
    if opened == "exclusiveMinimum" and schema.get("type") == "integer":
        return _number(schema[opened] + 1)
    word = "above" if opened.endswith("Minimum") else "below"
    return f"{word} {_number(schema[opened])}" if opened in schema else ""


def _number(value: float) -> str:
    return f"{value:.0e}".replace("e+0", "e").replace("e+", "e") if abs(value) >= 1e7 else f"{value:.7g}"


def _prose(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")


def _optional(field: FieldInfo) -> bool:
    return type(None) in get_args(field.annotation)


def _section_of(field: FieldInfo) -> list[type[BaseModel]]:
    return [m for m in _models(field.annotation) if m.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, tuple) or hasattr(annotation, "__metadata__"):
        return [model for inner in get_args(annotation) for model in _models(inner)]
    return []
