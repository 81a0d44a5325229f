"""Who takes the steps of MD: a recipe's `engine` -> what `walk.Walk` drives. Imported only when asked for."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Sequence
from typing import Any, Protocol

from ipip_ext.errors import RecipeError
from ipip_ext.md.integrators import Integrator
from ipip_ext.md.replicas import Replica
from ipip_ext.md.stacked import Stack
from ipip_ext.potentials.base import HasTorchSim, Potential
from ipip_ext.recipe.walk import Explore

_ENGINES = {"ase": "ipip_ext.md.integrators:AseEngine", "torchsim": "ipip_ext.md.torchsim.engine:TorchSimEngine"}


class Engine(Protocol):
    """What moves stacks. Queue, guard, frames, restarts and checkpoints are the same for all."""

    def room(self, walking: Sequence[Replica], waiting: Sequence[Replica]) -> int:
        """Return how many of `waiting`, in their order, may join those `walking`."""
        ...

    def dynamics(self, stack: Stack) -> Integrator:
        """Return what moves `stack` from where it stands, by the walkers' state alone."""
        ...


def check_engine(name: str, potential: Potential | None = None) -> None:
    """Raise RecipeError if engine `name` is not installed, or can't walk with `potential`."""
    _load(name)
    if name == "torchsim" and potential is not None and not isinstance(potential, HasTorchSim):
        raise RecipeError(
            f"engine torchsim evaluates models of its own kind, and {potential.name} gives it none (MACE does); take"
            " engine: ase here. A recipe may walk by ase in explore and by torchsim in sample."
        )


def make(potential: Potential, replicas: Sequence[Replica], settings: Explore) -> Engine:
    """Return the engine of `settings` for these walks. Raises RecipeError as `check_engine` does."""
    check_engine(settings.engine, potential)
    made: Engine = _load(settings.engine)(potential, replicas, settings)
    return made


def _load(name: str) -> Any:
    module, attribute = _ENGINES[name].split(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise RecipeError(
            f'engine {name} is not installed ({error}): pip install "ipip-mace[{name}]" with Python 3.12 or newer'
            f" (this is {platform.python_version()}), or take engine: ase."
        ) from None
