"""Which backends exist. A new one is a line here, a module beside this file, and an extra.

Only strings stand here, so that reading a recipe imports neither torch nor any backend.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ipip_ext.errors import RecipeError, did_you_mean
from ipip_ext.schema import Section

if TYPE_CHECKING:
    from ipip_ext.backends.base import Backend

_CONFIGS = {"mace": "ipip_ext.backends.mace.config:MaceConfig"}
_BACKENDS = {"mace": "ipip_ext.backends.mace.backend:MaceBackend"}


def names() -> list[str]:
    """Return the names a recipe may give as `student.backend`."""
    return sorted(_BACKENDS)


def config_class(name: str) -> type[Section]:
    """Return the pydantic model of the `student` section for backend `name`.

    Raises RecipeError for an unknown name.
    """
    if name not in _CONFIGS:
        raise RecipeError(f"student.backend: {name} is unknown.{did_you_mean(name, _CONFIGS)}")
    loaded: type[Section] = _load(_CONFIGS[name])
    return loaded


def backend(name: str) -> Backend:
    """Return the backend `name`, imported now. Raises RecipeError for an unknown name."""
    config_class(name)
    made: Backend = _load(_BACKENDS[name])()
    return made


def _load(target: str) -> Any:
    module, attribute = target.split(":")
    return getattr(importlib.import_module(module), attribute)
