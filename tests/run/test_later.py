"""Values that wait when they are looked at, and not before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ipip_ext.run.later import Later, look, settle, sources_of


class Source:
    """Something that is over once somebody has waited for it."""

    def __init__(self, value: Any) -> None:
        self.value, self.waits = value, 0

    @property
    def is_over(self) -> bool:
        return self.waits > 0

    def wait(self) -> Any:
        self.waits += 1
        return self.value


@dataclass(frozen=True)
class Bundle:
    model: Path
    more: tuple[Any, ...] = ()


def later(value: Any) -> tuple[Later, Source]:
    source = Source(value)
    return Later(lambda: source.value, [source]), source


def test_handing_on_waits_for_nothing():
    value, source = later(Path("model"))
    bundles = [Bundle(value, ({"inner": value},))]
    assert list(sources_of(bundles)) == [source, source]
    assert source.waits == 0


@pytest.mark.parametrize(
    ("value", "looked"),
    [
        (Path("a/b"), lambda v: v.name == "b"),
        ({"mae": 3.0}, lambda v: v["mae"] == 3.0 and "mae" in v and v | {"x": 1} == {"mae": 3.0, "x": 1}),
        (2, lambda v: [10, 20, 30][v] == 30 and f"{v:03d}" == "002" and float(v) == 2.0),
        ([1, 2], lambda v: list(v) == [1, 2] and len(v) == 2 and bool(v)),
        ("word", lambda v: v == "word" and {v: 1}["word"] == 1 and str(v) == "word"),
        (Path("file"), lambda v: open(v, "w").close() is None),  # noqa: PTH123 - as a library opens it
    ],
)
def test_looking_waits(value, looked, here):
    assert looked(later(value)[0])
    waited, source = later(value)
    look(waited)
    assert source.waits == 1


def test_what_is_there_takes_the_place_of_what_stands_for_it():
    value, _ = later(Path("model"))
    plain = Bundle(Path("other"))
    settled = settle({"one": Bundle(value, (value, 1)), "two": plain, "three": [value]})
    assert settled == {"one": Bundle(Path("model"), (Path("model"), 1)), "two": plain, "three": [Path("model")]}
    assert settled["two"] is plain
    assert type(settled["one"].model) is type(Path())


def test_one_may_stand_for_another():
    inner, _ = later(5)
    outer = Later(lambda: inner, [])
    assert outer == 5
    assert settle([outer]) == [5]
