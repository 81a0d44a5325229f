"""Which code trains which student. A new backend is a line here, a room beside `mace/`, its settings in
`recipe/students.py`, and an extra.

Only strings stand here, so that naming a backend imports neither torch nor any backend.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ipip_ext.recipe import students

if TYPE_CHECKING:
    from ipip_ext.backends.base import Backend

_BACKENDS = {"mace": "ipip_ext.backends.mace.backend:MaceBackend"}


def backend(name: str) -> Backend:
    """Return the backend `name`, imported now. Raises RecipeError for an unknown name."""
    students.config_class(name)
    module, attribute = _BACKENDS[name].split(":")
    made: Backend = getattr(importlib.import_module(module), attribute)()
    return made
