"""A call as a file: whatever stages are given comes back equal, and only what this package knows."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from alloy import tiny_recipe

import ipip_ext
from ipip_ext.errors import WorkspaceError
from ipip_ext.recipe.file import parse_recipe
from ipip_ext.recipe.training import Finetune
from ipip_ext.run import request
from ipip_ext.run.fingerprint import fingerprint, plain
from ipip_ext.run.stage import Call, Surroundings
from ipip_ext.stages.inputs import Calculator, Model, Student, Task
from ipip_ext.stages.train import finetune


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -0.0, 0.1 + 0.2, math.inf, "text\n\x1b é", Path("a/b"), [1, [2]], (1, (2, "x")),
        {"a": {"b": (1,)}},
        {1: "one", (2, 3): None}, {"is": "a key of ours"}, {"path": 1}, frozenset({1}), Task(Path("t"), Path("v")),
        Model(Student("mace", Path("m"))), Model(Calculator({"mace": "x", "kwargs": {"a": 1}})),
    ],
)  # fmt: skip
def test_what_is_told_comes_back_equal(value):
    told = json.loads(json.dumps(request.encode(value)))
    found = request.decode(told)
    assert found == value
    assert type(found) is type(value)


def test_a_section_comes_back_with_every_field(alloy_data):
    recipe = parse_recipe(tiny_recipe(alloy_data), where="r", root=alloy_data)
    for section in (recipe.student, recipe.explore, recipe.finetune, recipe.evaluate, recipe.data):
        found = request.decode(json.loads(json.dumps(request.encode(section))))
        assert type(found) is type(section)
        assert found == section
        assert plain(found) == plain(section)


@pytest.mark.parametrize("value", [object(), lambda: 0, {"a": {1j}}, b"bytes"])
def test_what_json_can_not_hold_is_refused_by_name(value):
    with pytest.raises(TypeError, match=r"can't be handed to another process"):
        request.encode(value)


@pytest.mark.parametrize("name", ["os:system", "ipip_extra.evil:run", "subprocess:Popen"])
def test_nothing_but_this_package_is_called(name):
    with pytest.raises(WorkspaceError, match="functions of ipip_ext alone"):
        request.decode({"is": name, "fields": {}})


def call_of(folder: Path) -> Call:
    (folder / "t").write_text("train")
    inputs = {"task": Task(folder / "t", folder / "t")}
    wanted = fingerprint("iter-00/finetune", finetune, Finetune(), inputs, 7)
    return Call(finetune, (Finetune(),), inputs, wanted, folder / "iter-00/finetune", "iter-00/finetune")


def test_a_request_is_the_call(here):
    call, around = call_of(here), Surroundings("cpu", here, here, 1, "owner")
    request.write(here / "request.json", call, around)
    found, surrounded = request.read(here / "request.json")
    assert surrounded == around
    assert (found.stage, found.params, found.inputs, found.folder) == (finetune, call.params, call.inputs, call.folder)
    assert json.dumps(found.wanted) == json.dumps(call.wanted)


def test_another_version_is_refused_with_both_named(here, monkeypatch):
    request.write(here / "request.json", call_of(here), Surroundings("cpu", here, here))
    monkeypatch.setattr(ipip_ext, "__version__", "9.9.9")
    with pytest.raises(WorkspaceError, match=r"has ipip-mace 9\.9\.9, and the run \d"):
        request.read(here / "request.json")


def test_a_file_that_is_another_there_is_refused(here):
    request.write(here / "request.json", call_of(here), Surroundings("cpu", here, here))
    (here / "t").write_text("other")
    with pytest.raises(WorkspaceError, match=r"t: is another on .*, or was changed meanwhile"):
        request.read(here / "request.json")
    (here / "t").unlink()
    with pytest.raises(WorkspaceError, match=r"t: can't be read on .*share"):
        request.read(here / "request.json")


def test_a_folder_that_is_not_there_is_refused(here):
    (here / "work").mkdir()
    os.chdir(here / "work")
    request.write(here / "request.json", call_of(here), Surroundings("cpu", here, here))
    os.chdir(here)
    (here / "work").rmdir()
    with pytest.raises(WorkspaceError, match="doesn't see the folder in which the run was started"):
        request.read(here / "request.json")
