"""What travels together into a stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


class Inputs:
    """Base of frozen dataclasses that name what travels together into stages.

    Each field is an input of the stage, recorded as if it were given by itself: how inputs are bundled is this
    package's affair and decides no result, so it may change while finished stages stay valid.
    """


def spread(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return `inputs` with the fields of each bundle in its place, and of bundles in it."""
    flat: dict[str, Any] = {}
    for name, value in inputs.items():
        flat |= spread(fields_of(value)) if isinstance(value, Inputs) else {name: value}
    return flat


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass's instance, as they are."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def defaults_of(kind: type) -> dict[str, Any]:
    """Return the fields of a dataclass that nobody need give, and what they then are."""
    return {field.name: field.default for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
