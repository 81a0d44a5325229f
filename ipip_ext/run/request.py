"""A stage's call as a file, from which another process, of another machine perhaps, makes the same call.

It holds the function by name, what it is given as JSON that tells types apart, the files it reads with their hashes,
the fingerprint, and what surrounds it. Only types of this package are made from it, and only its functions called.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import ipip_ext
from ipip_ext.errors import WorkspaceError
from ipip_ext.run import disk, picked, provenance
from ipip_ext.run.inputs import fields_of
from ipip_ext.run.stage import Call, Surroundings

_PACKAGE = __name__.partition(".")[0]
_KEY = "is"
"""The key that tells a typed value from a mapping of JSON's."""


def write(path: Path, call: Call, around: Surroundings) -> None:
    """Write the request for `call`. Raises TypeError for a value that can't be told in JSON."""
    read = {picked.split(file)[0] for file in _files([call.params, call.inputs])}
    files = {str(file): provenance.sha256(file) for file in sorted(read) if file.exists()}
    told = {
        "version": ipip_ext.__version__,
        "cwd": os.getcwd(),  # noqa: PTH109 - a text, from which relative paths begin
        "call": told_of(call),
        "around": encode(fields_of(around)),
        "files": files,
    }
    disk.write(path, json.dumps(told, indent=1))


def read(path: Path) -> tuple[Call, Surroundings]:
    """Return the call that `path` asks for, and what surrounds it; make the working folder the request's.

    Raises WorkspaceError if this Python's package has another version, if the folder that it was made in is not there,
    or if a file is not what it was.
    """
    told = json.loads(path.read_text(encoding="utf-8"))
    if told["version"] != ipip_ext.__version__:
        raise WorkspaceError(
            f"{provenance.python()}: has ipip-mace {ipip_ext.__version__}, and the run {told['version']}; install the"
            " same version where jobs run."
        )
    try:
        os.chdir(told["cwd"])
    except OSError as error:
        raise WorkspaceError(
            f"{told['cwd']}: {provenance.host()} doesn't see the folder in which the run was started ("
            f"{error.strerror}); jobs need a file system that they share with the run."
        ) from None
    for name, expected in told["files"].items():
        _check_file(Path(name), expected)
    return call_of(told["call"]), Surroundings(**decode(told["around"]))


def told_of(call: Call) -> dict[str, Any]:
    """Return `call` as JSON data. Raises TypeError for a value that can't be told in JSON."""
    told: dict[str, Any] = encode(fields_of(call) | {"stage": _name_of(call.stage)})
    return told


def call_of(told: Mapping[str, Any]) -> Call:
    """Return the call that `told_of` has told of."""
    call = decode(told)
    return Call(**call | {"stage": _found(call["stage"])})


def encode(value: Any) -> Any:  # noqa: PLR0911 - one a type
    """Return `value` as JSON data, from which `decode` makes an equal one. Raises TypeError for other types."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, Path):
        return {_KEY: "path", "path": str(value)}
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        fields = {name: getattr(value, name) for name in _field_names(value)}
        return {_KEY: _name_of(type(value)), "fields": {name: encode(item) for name, item in fields.items()}}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple | set | frozenset) and not hasattr(value, "_fields"):
        return {_KEY: type(value).__name__, "items": [encode(item) for item in value]}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and _KEY not in value:
            return {key: encode(item) for key, item in value.items()}
        return {_KEY: "mapping", "items": [[encode(key), encode(item)] for key, item in value.items()]}
    raise TypeError(f"a {type(value).__name__} can't be handed to another process: {value!r:.100}")


def decode(told: Any) -> Any:  # noqa: PLR0911 - one a type
    """Return the value that `encode` has told of."""
    if isinstance(told, list):
        return [decode(item) for item in told]
    if not isinstance(told, dict):
        return told
    kind = told.get(_KEY)
    if kind is None:
        return {key: decode(item) for key, item in told.items()}
    if kind == "path":
        return Path(told["path"])
    if kind == "mapping":
        return {decode(key): decode(item) for key, item in told["items"]}
    if kind in ("tuple", "set", "frozenset"):
        return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](decode(item) for item in told["items"])
    made, fields = _found(kind), {name: decode(item) for name, item in told["fields"].items()}
    # a section was checked when the recipe was read, against files that need not be where a job runs
    return made.model_construct(**fields) if issubclass(made, BaseModel) else made(**fields)


def _field_names(value: Any) -> list[str]:
    if isinstance(value, BaseModel):
        return list(type(value).model_fields)
    return [field.name for field in dataclasses.fields(value)]


def _files(value: Any) -> Iterator[Path]:
    """Yield the paths in `value`, however deep."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        for name in _field_names(value):
            yield from _files(getattr(value, name))
    elif isinstance(value, Mapping):
        yield from _files(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _files(item)


def _check_file(file: Path, expected: str) -> None:
    try:
        found = provenance.sha256(file)
    except OSError as error:
        raise WorkspaceError(
            f"{file}: can't be read on {provenance.host()} ({error.strerror}); jobs need a file system that they share"
            " with the run."
        ) from None
    if found != expected:
        raise WorkspaceError(
            f"{file}: is another on {provenance.host()}, or was changed meanwhile; start the run again."
        )


def _name_of(thing: Any) -> str:
    name = f"{thing.__module__}:{thing.__qualname__}"
    if "<" in name or thing.__module__.partition(".")[0] != _PACKAGE:
        raise TypeError(f"{name} can't be found by its name in this package, so no other process can")
    return name


def _found(name: str) -> Any:
    module, _, inner = name.partition(":")
    if module.partition(".")[0] != _PACKAGE:
        raise WorkspaceError(f"{name}: a job calls functions of {_PACKAGE} alone.")
    found: Any = importlib.import_module(module)
    for part in inner.split("."):
        found = getattr(found, part)
    return found
