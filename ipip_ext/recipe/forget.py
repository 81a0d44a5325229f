"""Recipe section of forgetting."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from ipip_ext.recipe.numbers import NUMBER_OR_LIST, Fraction, Rounds
from ipip_ext.recipe.schema import Section
from ipip_ext.recipe.training import Groups

_T = TypeVar("_T")


def _flat_or_nested(value: object) -> str:
    nested = isinstance(value, list | tuple) and any(isinstance(inner, list | tuple) for inner in value)
    return "list" if nested else "str"


def _not_empty(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values:
        raise ValueError("must be a number or hold some, such as [0, 0.5]")
    return values


# a discriminator, so that an error is about the branch that was meant; its tags are names that schema.explain omits
_Schedule = Annotated[tuple[_T, ...], AfterValidator(_not_empty), Tag("list")]
_Fractions = Annotated[Annotated[Fraction, Tag("float")] | _Schedule[Fraction], NUMBER_OR_LIST]
_Noise = Annotated[float, Field(ge=0, le=1000)]
_Noises = Annotated[Annotated[_Noise, Tag("float")] | _Schedule[_Noise], NUMBER_OR_LIST]
_GroupsOrSchedule = Annotated[
    Annotated[Groups, Tag("str")] | Annotated[tuple[Groups, ...], Tag("list")], Discriminator(_flat_or_nested)
]


class Forgetting(Section):
    """What is forgotten at one time; no groups: nothing, weights stay bitwise what they are."""

    groups: Groups
    keep: float
    noise: float


class Forget(Section):
    """Which blocks of the student are re-initialised between iterations: p <- keep*p + noise*fresh."""

    groups: _GroupsOrSchedule = ("readouts",)
    """Parameter groups: readouts, interactions, interactions.last, products, embedding, all; [] for none.
    A list of such lists is a schedule, such as [[all], [readouts], []]: entry i is for after iteration i, counted
    from 0, and the last repeats. Optimiser state, EMA and learning-rate schedule start afresh with every training,
    whatever is forgotten; so [] is the control in which these alone are forgotten. Adding interactions needs a
    pretraining as long as the first to be learnt again, and gained no more than the spread in one (docs/results.md)."""

    keep: _Fractions = 0.0
    """0 is a hard reset; between 0 and 1 shrink-and-perturb (Ash & Adams, arXiv:1910.08475).
    A list is a schedule, such as [0, 0.5, 0.8], as for `groups`."""

    noise: _Noises = 1.0
    """Share of freshly initialised weights that is added. A list is a schedule, as for `groups`."""

    every: Rounds = 1
    """Forget after each n-th iteration only; 2: after iterations 1, 3, 5. Schedules then have one entry for each
    of these."""

    until: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Last iteration, counted from 0, after which something may be forgotten; null: no such limit."""

    @model_validator(mode="after")
    def _some_weights_left(self) -> Forget:
        most = max(len(self.schedule), len(_as_tuple(self.keep)), len(_as_tuple(self.noise)))
        for index in range(most):
            entry = [_entry(values, index) for values in (_as_tuple(self.keep), _as_tuple(self.noise))]
            if _entry(self.schedule, index) and entry == [0, 0]:
                raise ValueError("keep 0 with noise 0 leaves weights of 0, which learn nothing; raise one of them")
        return self

    @property
    def schedule(self) -> tuple[Groups, ...]:
        """The groups of each forgetting; one entry where all forget the same."""
        nested = tuple(entry for entry in self.groups if isinstance(entry, tuple))
        return nested or (tuple(entry for entry in self.groups if isinstance(entry, str)),)

    def at(self, iteration: int) -> Forgetting:
        """Return what is forgotten after `iteration`, counted from 0."""
        count, rest = divmod(iteration + 1, self.every)
        if rest or (self.until is not None and iteration > self.until):
            return Forgetting(groups=(), keep=1.0, noise=0.0)
        return Forgetting(
            groups=_entry(self.schedule, count - 1),
            keep=_entry(_as_tuple(self.keep), count - 1),
            noise=_entry(_as_tuple(self.noise), count - 1),
        )


def _as_tuple(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _entry(values: tuple[_T, ...], index: int) -> _T:
    """Return the value at `index`; the last repeats."""
    return values[min(index, len(values) - 1)]
