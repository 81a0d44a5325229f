"""Numbers as recipes take them, each with the range in which it makes sense.

The limits are far beyond what anyone has needed, and below what hangs, overflows or fills a memory. A recipe is refused
by them in a line; without them a slip such as 1e9 fs is found out hours later, or never.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag

_SHORTEST_FS = 1e-4


def _not_too_short(timestep_fs: float) -> float:
    if timestep_fs < _SHORTEST_FS:
        raise ValueError(f"must be at least {_SHORTEST_FS}")
    return timestep_fs


def _number_or_list(value: object) -> str:
    return "list" if isinstance(value, list | tuple) else "float"


NUMBER_OR_LIST = Discriminator(_number_or_list)
"""For unions tagged float and list, so that an error is about the branch that was meant; `explain` omits both."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]

Count = Annotated[int, Field(gt=0, le=1_000_000)]
"""Of frames, epochs, replicas."""

Rounds = Annotated[int, Field(gt=0, le=1000)]
"""Of the method."""

Steps = Annotated[int, Field(ge=0, le=1_000_000_000)]
"""Of MD or of an optimiser."""

Every = Annotated[int, Field(gt=0, le=1_000_000_000)]
"""Steps from one to the next."""

Weight = Annotated[float, Field(ge=0, le=1e9)]
Rate = Annotated[float, Field(gt=0, le=1e6)]
"""Of learning."""

Factor = Annotated[float, Field(gt=0, le=1e15)]
"""Of a limit: large ones switch it off."""

ForceLimit_eV_per_A = Annotated[float, Field(gt=0, le=1e12)]
Temperature_K = Annotated[float, Field(gt=0, le=100_000)]
Temperature = Annotated[
    Annotated[Temperature_K, Tag("float")] | Annotated[tuple[Temperature_K, Temperature_K], Tag("list")], NUMBER_OR_LIST
]
"""Constant, or (first, last) of a ramp; K."""

Time_ps = Annotated[float, Field(gt=0, le=1e6)]
SkippedTime_ps = Annotated[float, Field(ge=0, le=1e6)]
Timestep_fs = Annotated[float, Field(gt=0, le=100), AfterValidator(_not_too_short)]
Friction_per_fs = Annotated[float, Field(gt=0, le=10)]
StartFactor = Annotated[float, Field(gt=0, le=1000)]
"""Of the temperature at which velocities start."""

Replicas = Annotated[int, Field(gt=0, le=10_000)]

MOST_STEPS = 1_000_000_000
"""Of a walk whose length is given as a time."""
