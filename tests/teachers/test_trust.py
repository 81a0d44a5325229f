"""Nothing that someone else wrote runs code, unless the user says so; each line of docs/security.md has its test."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from alloy import tiny_recipe, write_recipe
from click.testing import CliRunner
from strangers import Evil, of_another

from ipip_ext.backends import known_models
from ipip_ext.cli.main import main
from ipip_ext.recipe.file import load_recipe
from ipip_ext.teachers import trust

ROOT = Path(__file__).parents[2]
FACTORY = """
from pathlib import Path
from ase.calculators.emt import EMT
Path(__file__).with_name("ran").touch()
def make():
    return EMT()
"""
OWN, TEACHER = {"python": "beside:make"}, {"kind": "teacher"}
KINDS = {
    "teacher": ({"teacher": OWN}, "teacher: runs beside:make"),
    "interpreter": (
        {"teacher": {**OWN, "interpreter": sys.executable}},
        f"teacher: runs beside:make in {re.escape(sys.executable)}",
    ),
    "pickle": ({"teacher": {"mace": "evil.model"}}, r"teacher: unpickles .*evil\.model \(SHA-256 [0-9a-f]{64}\)"),
    "chgnet": ({"teacher": {"chgnet": "evil.model"}}, r"teacher: unpickles .*evil\.model"),
    "reference": (
        {"teacher": "chgnet", "label": {"reference": {"calculator": OWN, "budget": 1}}},
        r"label\.reference\.calculator: runs beside:make",
    ),
    "baseline": (
        {"teacher": "chgnet", "baselines": [TEACHER, {"kind": "calculator", "name": "b", "calculator": OWN}]},
        r"baselines\.1\.calculator: runs beside:make",
    ),
    "place": (
        {"teacher": "chgnet", "compute": {"place": "parsl", "parsl": "cluster.yaml"}},
        r"compute\.parsl: runs the shell lines of .*cluster\.yaml",
    ),
    "tracking": (
        {"teacher": "chgnet", "tracking": {"uri": "http://example.org"}},
        "tracking.uri: writes to http://example.org",
    ),
    "database": (
        {"teacher": "chgnet", "tracking": {"uri": "sqlite:///../other.db"}},
        r"tracking\.uri: writes to sqlite:///\.\./other\.db",
    ),
}  # fmt: skip


@pytest.fixture
def here(tmp_path, alloy_data, monkeypatch) -> Path:
    """A folder with a factory, a model file that runs code, and a recipe whose teacher is that factory."""
    monkeypatch.chdir(tmp_path)
    Path("beside.py").write_text(FACTORY)
    torch.save(Evil(tmp_path / "ran"), "evil.model")
    write_recipe(tmp_path, alloy_data, teacher=OWN, tracking__enabled=False)
    yield tmp_path
    sys.modules.pop("beside", None)


def write(alloy_data: Path, changes: dict) -> None:
    recipe = tiny_recipe(alloy_data)
    del recipe["baselines"]
    Path("recipe.yaml").write_text(json.dumps({**recipe, **changes}))


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == 2, done.output
    assert not Path("ran").exists()
    return done.stderr


COMMANDS = [("run", ()), ("check", ()), ("ablate", ("--vary", "finetune.lr=0.001,0.002"))]


@pytest.mark.parametrize(("command", "more"), COMMANDS)
def test_a_recipe_of_another_user(here, monkeypatch, command, more):
    with monkeypatch.context() as patch:
        of_another(patch)
        said = refused(command, "recipe.yaml", *more)
    assert re.search(
        r"recipe\.yaml belongs to .*, and it can run code: teacher: runs beside:make;.*--trust-models", said
    )
    assert not Path("runs").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_can_run_code_is_seen(here, alloy_data, monkeypatch, kind):
    changes, words = KINDS[kind]
    write(alloy_data, changes)
    assert re.search(words, str(trust.require(load_recipe(Path("recipe.yaml")), trusted=False)[0]))
    of_another(monkeypatch)
    assert re.search(words, refused("check", "recipe.yaml"))
    assert trust.require(load_recipe(Path("recipe.yaml")), trusted=True)


@pytest.mark.parametrize("teacher", ["chgnet", {"xtb": "GFN1-xTB"}, {"mace": "medium-mpa-0"}, {"chgnet": "r2scan"}])
def test_what_runs_nobodys_code_needs_no_trust(here, alloy_data, monkeypatch, teacher):
    write(alloy_data, {"teacher": teacher})
    of_another(monkeypatch)
    assert trust.require(load_recipe(Path("recipe.yaml")), trusted=False) == []


def test_lammps_runs_what_its_input_says(here, alloy_data):
    line = ["* * x"]
    write(alloy_data, {"teacher": {"lammps": "python 5.0", "pair_coeff": line, "elements": ["Cu", "Al"]}})
    assert "LAMMPS" in str(trust.findings(load_recipe(Path("recipe.yaml")))[0])


@pytest.mark.parametrize("path", ["recipe.yaml", "."])
def test_what_every_user_may_write_is_nobodys_own(here, path):
    """A module dropped beside the recipe would be imported."""
    Path(path).chmod(Path(path).stat().st_mode | 0o002)
    assert "may be written by every user" in refused("check", "recipe.yaml")


def test_one_s_own_recipe_and_a_trusted_one_run(here, monkeypatch):
    assert CliRunner().invoke(main, ["check", "recipe.yaml"], catch_exceptions=False).exit_code == 0
    assert Path("ran").exists()
    Path("ran").unlink()
    sys.modules.pop("beside")
    of_another(monkeypatch)
    done = CliRunner().invoke(main, ["check", "recipe.yaml", "--trust-models"], catch_exceptions=False)
    assert done.exit_code == 0
    assert Path("ran").exists()


def test_a_model_file_of_another_user(here, alloy_data, monkeypatch):
    of_another(monkeypatch)
    for model in ("evil.model", "{mace: evil.model}", "{chgnet: evil.model}"):
        assert "--trust-models" in refused("evaluate", model, alloy_data / "test.extxyz")
    done = CliRunner().invoke(main, ["evaluate", "evil.model", str(alloy_data / "test.extxyz"), "--trust-models"])
    assert done.exit_code == 2
    assert Path("ran").exists()  # so the file does what it is feared to


@pytest.mark.slow
def test_the_hash_of_a_pickled_model_is_on_record_before_it_is_loaded(here, alloy_data, finished_run):
    model = finished_run / "runs/tiny/model/student.model"
    found = hashlib.sha256(model.read_bytes()).hexdigest()
    baseline = {"kind": "calculator", "name": "other", "calculator": {"mace": str(model)}}
    write(alloy_data, {"baselines": [baseline], "iterations": 1, "tracking": {"enabled": False}})
    done = CliRunner().invoke(main, ["run", "recipe.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(f"baselines.0.calculator: unpickles {model} (SHA-256 {found})\n")
    record = json.loads(Path("runs/tiny/baseline-other/evaluate/stage.json").read_text())
    assert record["fingerprint"]["inputs"]["model"]["calculator"]["mace"] == f"sha256:{found}"
    broken = CliRunner().invoke(main, ["check", "recipe.yaml", "--set", "teacher={mace: evil.model}"])
    assert broken.exit_code == 2
    assert f"SHA-256 {hashlib.sha256(Path('evil.model').read_bytes()).hexdigest()}" in broken.stderr.splitlines()[0]


def test_safe_loading_stays_on_and_our_own_files_hold_no_pickle(finished_run, tmp_path):
    """In a new process: all of the package is imported, a student is read, and a stranger's pickle is refused."""
    torch.save(Evil(tmp_path / "ran"), tmp_path / "evil.model")
    code = """
import importlib.util, pkgutil, sys
import ipip_ext, torch
pickled = []
for module in pkgutil.walk_packages(ipip_ext.__path__, "ipip_ext."):
    needs_more = module.name.startswith("ipip_ext.md.torchsim.") and importlib.util.find_spec("torch_sim") is None
    if not needs_more and not module.name.startswith(("ipip_ext.backends.testing", "ipip_ext.backends.conformance")):
        importlib.import_module(module.name)
from ipip_ext.backends import registry
registry.backend("mace")
sys.addaudithook(lambda event, args: pickled.append(args) if event == "pickle.find_class" else None)
ipip_ext.load_calculator(sys.argv[1])
assert not pickled, pickled
try:
    torch.load(sys.argv[2])
except Exception as error:
    assert "weights_only" in str(error) or "Weights only" in str(error), error
else:
    raise SystemExit("loaded")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(finished_run / "runs/tiny"), str(tmp_path / "evil.model")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
    for file in (finished_run / "runs/tiny").rglob("*"):
        assert file.suffix not in (".pt", ".pkl", ".npy"), file
    assert pickle.PROTO not in (finished_run / "runs/tiny/model/student.safetensors").read_bytes()[:1]


def test_yaml_makes_no_objects(here):
    evil = '!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["ran"]]'
    text = Path("recipe.yaml").read_text()
    Path("recipe.yaml").write_text(f"{text}\nadapt: {evil}\n")
    assert "the tag '!!python/object/apply:pathlib.Path.touch' is unknown" in refused("check", "recipe.yaml")
    Path("recipe.yaml").write_text(text)
    refused("check", "recipe.yaml", "--set", f"seed={evil}")
    refused("ablate", "recipe.yaml", "--vary", f"finetune.lr={evil}")
    refused("evaluate", f"{{mace: {evil}}}", "test.extxyz")


def test_names_that_lead_elsewhere(here, alloy_data):
    """Names become folders; files are read where the recipe says, and written in the run folder only."""
    for name in ("../out", "/out", "a/b", ".."):
        refused("run", "recipe.yaml", "--set", f"name={name}")
        baselines = [{"kind": "calculator", "name": name, "calculator": "chgnet"}]
        refused("run", "recipe.yaml", "--set", f"baselines={json.dumps(baselines)}")


def test_the_known_foundation_models_are_released_ones(tmp_path):
    file = tmp_path / "any.model"
    file.write_bytes(b"something else")
    known_models.verify_foundation("a-newer-one.model", file)  # nobody knows better
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in known_models.KNOWN_SHA256.values())
    from ipip_ext.backends.mace._mace import foundations

    known = foundations()
    released = {url.rsplit("/", 1)[-1] for url in (*known.mace_mp_urls.values(), *known.mace_off_urls.values())}
    assert set(known_models.KNOWN_SHA256) <= released


def test_the_ui_is_for_this_machine_unless_told_otherwise(here):
    Path("mlflow.db").touch()
    default = next(option.default for option in main.commands["ui"].params if option.name == "host")
    assert default == "127.0.0.1"
    near = CliRunner().invoke(main, ["ui", "--uri", "sqlite:///none.db"])
    far = CliRunner().invoke(main, ["ui", "--uri", "sqlite:///none.db", "--host", "0.0.0.0"])  # noqa: S104
    assert "warning" not in near.stderr
    assert far.stderr.startswith("warning: whoever reaches 0.0.0.0:5000 can read, change and delete these runs")


def test_each_line_of_the_threat_model_names_its_test():
    page = (ROOT / "docs/security.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 10
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(), (file, test)
