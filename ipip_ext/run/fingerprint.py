"""What decides a stage's results, so that a finished one is known again.

A new key of a recipe must default to what was done before there was the key: then an update of this package leaves
finished stages valid.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ipip_ext.errors import WorkspaceError
from ipip_ext.run import picked
from ipip_ext.run.inputs import Inputs, defaults_of, fields_of, spread
from ipip_ext.run.plain import flatten


def fingerprint(
    name: str, stage: Callable[..., Any], params: Any, inputs: Mapping[str, Any], seed: int
) -> dict[str, Any]:  # fmt: skip
    """Return what decides the results of the stage `name`, as JSON data.

    stage: the function; its default arguments are what its inputs are where nobody gives them. params: a section of the
    recipe, or None. inputs: files count by content, everything else by value; a bundle's fields count by themselves.
    Raises WorkspaceError for a file that can't be read.
    """
    given = _Section({key: content(value) for key, value in spread(inputs).items()})
    silent = {
        key: argument.default
        for key, argument in inspect.signature(stage).parameters.items()
        if argument.default is not argument.empty
    }
    for bundle in (value for value in inputs.values() if isinstance(value, Inputs)):
        silent |= defaults_of(type(bundle))
    given.defaults = {key: content(value) for key, value in silent.items()}
    return {"stage": name, "seed": seed, "params": plain(params), "inputs": given}


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys, dotted, in which two fingerprints differ: what was found and what is wanted, None for nothing.

    found: as a record holds it. wanted: as `fingerprint` returns it.
    """
    old, new = flatten(json.loads(json.dumps(found))), flatten(json.loads(json.dumps(_as_then(found, wanted))))
    return {
        key: (old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }


def _as_then(found: Any, wanted: Any) -> Any:
    """Return `wanted` without the keys that came after `found` was made, where they have their defaults."""
    if not isinstance(found, Mapping) or not isinstance(wanted, Mapping):
        return wanted
    silent = getattr(wanted, "defaults", {})
    return {
        key: _as_then(found.get(key), value)
        for key, value in wanted.items()
        if key in found or key not in silent or value != silent[key]
    }


class _Section(dict[str, Any]):
    """A section of the recipe, or a stage's inputs, as JSON data, and what its keys are where nobody says."""

    defaults: Mapping[str, Any]


def plain(value: Any) -> Any:
    """Return JSON data for parameters; paths are left out, since their content is an input. Sections know defaults."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        section = _Section(plain({name: getattr(value, name) for name in fields}))
        silent = {name: f.get_default(call_default_factory=True) for name, f in fields.items() if not f.is_required()}
        section.defaults = plain(silent)
        return section
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items() if not isinstance(v, Path)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def content(value: Any) -> Any:
    """Return what of an input decides a stage's results: of files their content, else what a value says of itself."""
    if hasattr(value, "fingerprint"):
        value = value.fingerprint()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        bundle = _Section({key: content(item) for key, item in fields_of(value).items()})
        bundle.defaults = {key: content(item) for key, item in defaults_of(type(value)).items()}
        return bundle
    if isinstance(value, Path):
        try:
            return f"sha256:{picked.content(value)}"
        except OSError as error:
            raise WorkspaceError(f"{value}: can't be read ({error.strerror}); put it back.") from None
    if isinstance(value, list | tuple):
        return [content(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): content(item) for key, item in value.items()}
    return plain(value)
