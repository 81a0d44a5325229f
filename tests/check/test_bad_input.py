"""Whatever is wrong is refused in one line that names file, place and remedy, before anything is written."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from alloy import assert_refused, cell, label, write_recipe
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from click.testing import CliRunner

from ipip_ext import load_calculator
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.errors import ModelFileError

NAN, INF = float("nan"), float("inf")
FORCES = fr.FORCES


@pytest.fixture(params=["check", "run"])
def command(request) -> str:
    return request.param


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working directory of one's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def task(here, alloy_data) -> Path:
    """The same with recipe.yaml and a copy of its data in data/."""
    shutil.copytree(alloy_data, here / "data")
    write_recipe(here, Path("data"))
    return here


@pytest.fixture
def finished(tmp_path, finished_run, monkeypatch) -> Path:
    """A copy of the finished run."""
    shutil.copytree(finished_run, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path()


# ---------------------------------------------------------------- the recipe


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("iteration", 2, ("iteration is unknown", "Did you mean iterations?")),
        ("finetune__lrr", 0.1, ("finetune.lrr is unknown", "Did you mean lr?")),
        ("student__r_max", 4.0, ("student: r_max is unknown", "Did you mean r_max_A?")),
        ("explore__guard", {"check_evry": 5}, ("explore.guard.check_evry is unknown", "Did you mean check_every?")),
        ("data__ood__value", ["s2"], ("data.ood.value is unknown", "Did you mean values?")),
        ("baselines", [{"kind": "scratch", "fit": {"epoch": 3}}],
         ("baselines.0.fit.epoch is unknown", "Did you mean epochs?")),
        ("baselines", [{"kind": "scrath"}], ("baselines.0", "scrath", "'scratch', 'teacher'")),
        ("baselines", [{"kind": "teacher"}, {"kind": "scratch", "fits": {}}],
         ("baselines.1.fits is unknown", "Did you mean fit?")),
        ("Name", "x", ("Name is unknown", "Did you mean name?")),
        ("list", [1], ("list is unknown",)),
        ("student__MLP_irreps", "4x1o", ("student: MLP_irreps", "must be scalars", "not '4x1o'")),
        ("data__e0s", {"Cu": "low"}, ("data.e0s",)),
        ("finetune__lr", "fast", ("finetune.lr", "valid number", "not 'fast'")),
        ("finetune__lr", -0.01, ("finetune.lr", "greater than 0", "not -0.01")),
        ("finetune__lr", [0.1, 0.2], ("finetune.lr", "valid number")),
        ("finetune__lr", NAN, ("finetune.lr", "finite")),
        ("explore__timestep_fs", 0, ("explore.timestep_fs", "greater than 0", "not 0")),
        ("explore__temperatures_K", [], ("explore.temperatures_K", "at least 1")),
        ("explore__temperatures_K", 600, ("explore.temperatures_K", "not 600")),
        ("explore__temperatures_K", [600, -1], ("explore.temperatures_K.1", "greater than 0")),
        ("explore__frame_every", 50, ("explore", "frame_every is larger than n_steps")),
        ("explore__ensemble", "nph", ("explore.ensemble", "'nvt_langevin'", "not 'nph'")),
        ("student__backend", "nequip", ("student.backend", "nequip is unknown", "mace")),
        ("student__hidden_irreps", "4x0e+8x1o", ("student: hidden_irreps", "same number of channels")),
        ("student", [1], ("student", "must be a section")),
        ("finetune", 3, ("finetune", "must be a section", "not 3")),
        ("data", ["train.extxyz"], ("data", "must be a section")),
        ("data__e0s", "fit", ("data.e0s", "'fitted'", "'isolated_atoms'", "not 'fit'")),
        ("data__valid_fraction", 1.5, ("data.valid_fraction", "less than 1")),
        ("data__valid_split", "grouped", ("data", "needs split_keys")),
        ("data__train", 7, ("data.train", "not 7")),
        ("name", "../elsewhere", ("name", "not '../elsewhere'")),
        ("device", "gpu", ("device", "not 'gpu'")),
        ("teacher", 7, ("teacher", "not 7")),
        (3, "three", ("3", "Keys should be strings")),
    ],
)  # fmt: skip
def test_a_wrong_key_or_value(task, command, key, value, words):
    raw = yaml.safe_load(Path("recipe.yaml").read_text())
    *sections, last = key.split("__") if isinstance(key, str) else [key]
    inner = raw
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    Path("recipe.yaml").write_text(yaml.safe_dump(raw))
    assert_refused(("recipe.yaml: ", *words), command, "recipe.yaml")


@pytest.mark.parametrize("key", ["name", "data.train", "data.test", "teacher", "explore.starts", "data.ood.values"])
def test_a_missing_key(task, command, key):
    raw = yaml.safe_load(Path("recipe.yaml").read_text())
    *sections, last = key.split(".")
    inner = raw
    for section in sections:
        inner = inner[section]
    del inner[last]
    Path("recipe.yaml").write_text(yaml.safe_dump(raw))
    assert_refused((f"recipe.yaml: {key} is missing", "add it"), command, "recipe.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("holds no keys", "init")),
        (b"# nothing yet\n", ("holds no keys", "init")),
        (b"- name: tiny\n", ("holds no keys", "init")),
        (b"name: tiny\ndata: {train: [a\nexplore: b\n", ("line 3", "not YAML")),
        (b"name: tiny\n\tdata: x\n", ("line 2", "not YAML")),
        (b"name: \x00\x01\x02", ("not YAML",)),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", ("is not text",)),
    ],
)
def test_a_file_that_is_no_recipe(here, command, content, words):
    Path("recipe.yaml").write_bytes(content)
    assert_refused(("recipe.yaml: ", *words), command, "recipe.yaml")


def test_a_recipe_that_is_not_there_or_a_folder(task, command):
    assert_refused(("nowhere.yaml: no such recipe", "ipip-mace init"), command, "nowhere.yaml")
    assert_refused(("data: is a folder", "name the recipe"), command, "data")


def test_a_recipe_that_may_not_be_read(task, command, monkeypatch):
    def no(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", no)
    assert_refused(("recipe.yaml: can't be read (Permission denied)", "permissions"), command, "recipe.yaml")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("finetune.lr", ("--set finetune.lr", "key=value")),
        ("=3", ("--set =3", "key=value")),
        ("finetune.lr=[1", ("--set finetune.lr=[1", "not a YAML value")),
        ("finetun.lr=0.1", ("finetun is unknown", "Did you mean finetune?")),
        ("name.x=1", ("--set name.x=1", "name is not a section")),
        ("finetune.lr=-1", ("finetune.lr", "greater than 0")),
        ("finetune=null", ("finetune", "must be a section")),
    ],
)
def test_a_bad_override(task, command, override, words):
    assert_refused(words, command, "recipe.yaml", "--set", override)


# ---------------------------------------------------------------- teacher, baselines and other names

FACTORIES = """
raise_here = 3
def broken():
    raise RuntimeError("no weights\\n  in the cupboard")
def other():
    return 7
"""


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("chgnett", ("chgnett", "unknown", "Did you mean chgnet?")),
        ("mace", ("mace", "needs a value", "{mace: ")),
        ({"xtb": "GFN1", "mace": "medium"}, ("one kind",)),
        ({"xtb": "GFN1-xTBB"}, ("GFN1-xTBB", "Did you mean GFN1-xTB?")),
        ({"chgnet": "0.4.0"}, ("0.4.0", "neither a file nor a model's name")),
        ({"mace": "nowhere.model"}, ("nowhere.model", "no such file")),
        ({"mace": "data/train.extxyz"}, ("train.extxyz", "can't be read as a model", "MACE saved")),
        ({"mace": "smalll"}, ("smalll", "Did you mean small?")),
        ({"python": "ase.calculators.emt"}, ("ase.calculators.emt", "module:factory")),
        ({"python": "ase.calculators.emtt:EMT"}, ("no module named ase.calculators.emtt",)),
        ({"python": "ase.calculators.emt:EMTT"}, ("no factory EMTT", "Did you mean EMT?")),
        ({"python": "factories:broken"}, ("factories:broken()", "no weights in the cupboard")),
        ({"python": "factories:other"}, ("factories:other", "returned int", "ASE calculator")),
        ({"python": "factories:raise_here"}, ("no factory raise_here",)),
        ({"python": "halves:make"}, ("importing halves failed", "SyntaxError")),
        ({"python": "ase.calculators.emt:EMT", "kwargs": [1]}, ("kwargs must be a section",)),
        ({"python": "factories:broken", "kwargs": {"cutof": 1}}, ("broken(cutof=1) failed", "TypeError")),
    ],
)
def test_a_teacher_that_cannot_be_made(task, command, teacher, words):
    Path("factories.py").write_text(FACTORIES)
    Path("halves.py").write_text("def make(:\n")
    write_recipe(task, Path("data"), teacher=teacher)
    assert_refused(("recipe.yaml: teacher: ", *words), command, "recipe.yaml")


@pytest.mark.parametrize(("kind", "module"), [("chgnet", "chgnet"), ("xtb", "tblite")])
def test_a_teacher_whose_package_is_missing(task, command, kind, module, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == module else found(name, *a))
    write_recipe(task, Path("data"), teacher=kind)
    assert_refused((module, "not installed", f'pip install "ipip-mace[{kind}]"'), command, "recipe.yaml")


def test_a_teacher_that_does_not_know_an_element(task, command):
    edit("data/train.extxyz", lambda frames: [swap(frame, "Al", "Si") for frame in frames])
    edit("data/test.extxyz", lambda frames: [swap(frame, "Al", "Si") for frame in frames])
    edit("data/starts.extxyz", lambda frames: [swap(frame, "Al", "Si") for frame in frames])
    assert_refused(("train.extxyz", "frame train-0", "python:EMT", "Si", "another teacher"), command, "recipe.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"forget__groups": ["readout"]}, ("forget.groups", "readout", "Did you mean readouts?")),
        ({"baselines": [{"kind": "teacher"}, {"kind": "teacher"}]}, ("baselines", "teacher", "once")),
        ({"evaluate__speed_start": 7}, ("evaluate.speed_start", "7", "s0, s1")),
        ({"evaluate__speed_start": "s7"}, ("evaluate.speed_start", "s7", "s0, s1")),
    ],
)
def test_a_name_that_nothing_has(task, command, changes, words):
    write_recipe(task, Path("data"), **changes)
    assert_refused(("recipe.yaml: ", *words), command, "recipe.yaml")


# ---------------------------------------------------------------- the data


def edit(path: str, change: Callable[[list[Atoms]], list[Atoms]]) -> None:
    fr.write_frames(Path(path), change(fr.read_frames(Path(path))))


def swap(frame: Atoms, old: str, new: str) -> Atoms:
    frame.symbols[frame.symbols == old] = new
    return frame


def each(change: Callable[[Atoms], None], *only: int) -> Callable[[list[Atoms]], list[Atoms]]:
    def changed(frames: list[Atoms]) -> list[Atoms]:
        for index in only or range(len(frames)):
            change(frames[index])
        return frames

    return changed


def drop(key: str) -> Callable[[Atoms], None]:
    def change(frame: Atoms) -> None:
        frame.info.pop(key, None)
        frame.arrays.pop(key, None)

    return change


def put(key: str, value: object, at: tuple[int, ...] | None = None) -> Callable[[Atoms], None]:
    def change(frame: Atoms) -> None:
        if at is not None:
            frame.arrays[key][at] = value
        else:
            frame.info[key] = value

    return change


def rename(old: str, new: str) -> Callable[[Atoms], None]:
    def change(frame: Atoms) -> None:
        holder = frame.info if old in frame.info else frame.arrays
        holder[new] = holder.pop(old)

    return change


def plain(frame: Atoms) -> None:
    frame.calc = SinglePointCalculator(frame, energy=frame.info.pop(fr.ENERGY), forces=frame.arrays.pop(FORCES))


def scale(key: str, factor: float) -> Callable[[Atoms], None]:
    def change(frame: Atoms) -> None:
        holder = frame.info if key in frame.info else frame.arrays
        holder[key] = holder[key] * factor

    return change


def flatten_forces(frame: Atoms) -> None:
    frame.arrays[FORCES] = frame.arrays[FORCES][:, :2]


def forces_in_comment(frame: Atoms) -> None:
    frame.info[FORCES] = frame.arrays.pop(FORCES).ravel()


def forces_as_text(frame: Atoms) -> None:
    frame.info[FORCES] = "see the other file"
    del frame.arrays[FORCES]


def no_volume(frame: Atoms) -> None:
    frame.cell[2] = 0.0


def dependent(frame: Atoms) -> None:
    frame.cell[2] = frame.cell[0] + frame.cell[1]


def touching(frame: Atoms) -> None:
    frame.positions[1] = frame.positions[0] + frame.cell[2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (each(drop(FORCES)), ("no frame has REF_forces", "Found: per frame", "REF_energy", "data.forces_key")),
        (each(drop(fr.ENERGY)), ("no frame has REF_energy", "per atom REF_forces", "data.energy_key")),
        (each(drop(FORCES), 3, 5), ("2 of 16 frames have no REF_forces", "first: frame 3")),
        (each(drop(fr.ENERGY), 4), ("1 of 16 frames have no REF_energy", "first: frame 4")),
        (each(rename(FORCES, "dft_forces")), ("no frame has REF_forces", "per atom dft_forces", "data.forces_key")),
        (each(put(fr.ENERGY, NAN), 2), ("frame 2", "energy: NaN or infinite", "take it out")),
        (each(put(fr.ENERGY, INF), 2), ("frame 2", "energy", "NaN or infinite")),
        (each(put(fr.ENERGY, "low"), 2), ("frame 2", "energy", "not numbers")),
        (each(put(FORCES, NAN, (1, 1)), 6), ("frame 6", "forces", "NaN or infinite")),
        (each(put(FORCES, INF, (1, 1)), 6), ("frame 6", "forces", "NaN or infinite")),
        (each(put("positions", NAN, (1, 1)), 6), ("frame 6", "positions or cell", "NaN or infinite")),
        (each(flatten_forces), ("frame 0", "forces: shape (4, 2)", "(4, 3)")),
        (each(forces_in_comment), ("REF_forces stands in the comment line", "REF_forces:R:3")),
        (each(forces_as_text), ("REF_forces stands in the comment line", "REF_forces:R:3")),
        (each(scale(FORCES, 23.06)), ("eV/A", "kcal/mol/A", "Convert")),
        (each(scale(FORCES, 0.0194)), ("0.0194 times", "python:EMT", "hartree/bohr", "Convert")),
        (each(scale(FORCES, 1000.0)), ("eV/A", "meV/A", "Convert")),
        (each(scale(FORCES, 0.0)), ("forces are (nearly) zero", "were they written?")),
        (each(scale(fr.ENERGY, 1 / 27.2114)), ("energies", "0.0368 times", "hartree", "Convert")),
        (each(scale(fr.ENERGY, 23.06)), ("energies", "23.1 times", "kcal/mol", "Convert")),
        (each(no_volume), ("frame 0", "no volume", "Lattice")),
        (each(dependent, 2), ("frame 2", "no volume", "Lattice")),
        (each(touching, 7), ("frame train-00007", "atoms 0 and 1", "same place")),
        (lambda frames: frames[:1], ("1 frames are too few for valid_fraction", "data.valid")),
    ],
)  # fmt: skip
def test_unusable_training_frames(task, command, change, words):
    edit("data/train.extxyz", change)
    assert_refused(("data/train.extxyz: ", *words), command, "recipe.yaml")


@pytest.mark.parametrize("name", ["train", "test", "starts"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), ("no such file", "relative to the recipe")),
        (lambda path: path.write_bytes(b""), ("is empty",)),
        (lambda path: path.write_bytes(b"\n\n\n"), ("extended XYZ",)),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), ("extended XYZ",)),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), (": frame ", "save it again as extended XYZ")),
        (lambda path: path.write_bytes(b"0\n\n" + path.read_bytes()), ("frame 0", "no atoms")),
        (lambda path: (path.unlink(), path.mkdir()), ("is a folder",)),
    ],
    ids=["missing", "empty", "blank", "garbage", "truncated", "no-atoms", "folder"],
)
def test_a_file_that_holds_no_frames(task, command, name, change, words):
    change(Path(f"data/{name}.extxyz"))
    assert_refused((f"data/{name}.extxyz: ", *words), command, "recipe.yaml")


def test_plain_ase_labels_are_pointed_at(task, command):
    import ase.io

    frames = each(plain)(fr.read_frames(Path("data/train.extxyz")))
    ase.io.write("data/train.extxyz", frames)
    words = ("train.extxyz: ", "no frame has REF_energy", "as plain labels energy, forces", "data.energy_key")
    assert_refused(words, command, "recipe.yaml")


@pytest.mark.parametrize("name", ["test", "starts", "valid", "sample"])
def test_an_element_that_training_lacks(task, command, name):
    path = f"data/{name}.extxyz"
    if name in ("valid", "sample"):
        fr.write_frames(Path(path), [label(cell(50))])
    edit(path, each(lambda frame: swap(frame, "Al", "Ni"), 0))
    changes = {"valid": {"data__valid": path}, "sample": {"sample": {"starts": path}}}.get(name, {})
    write_recipe(task, Path("data"), **changes)
    assert_refused((path, "0 holds Ni", "train.extxyz lacks", "Al, Cu"), command, "recipe.yaml")


def same(frame: Atoms) -> None:
    pass


def moved(frame: Atoms) -> None:
    frame.positions[2] += frame.cell[0] - 2 * frame.cell[1]


def nudged(frame: Atoms) -> None:
    frame.positions += 1e-4 * np.random.default_rng(0).uniform(-0.5, 0.5, frame.positions.shape)


@pytest.mark.parametrize("change", [same, moved, nudged])
def test_a_test_frame_in_train_or_valid(task, command, change):
    frame = fr.read_frames(Path("data/test.extxyz"))[4]
    change(frame)
    fr.write_frames(Path("data/valid.extxyz"), [label(cell(60)), frame])
    write_recipe(task, Path("data"), data__valid="data/valid.extxyz")
    assert_refused(("test.extxyz: frame 4", "also stands in", "valid.extxyz", "take it out"), command, "recipe.yaml")

    write_recipe(task, Path("data"))
    edit("data/train.extxyz", lambda frames: [*frames, frame])
    assert_refused(("test.extxyz: frame 4", "also stands in", "train.extxyz", "take it out"), command, "recipe.yaml")


def test_a_validation_frame_in_train(task, command):
    shutil.copy("data/train.extxyz", "data/valid.extxyz")
    write_recipe(task, Path("data"), data__valid="data/valid.extxyz")
    assert_refused(("valid.extxyz: frame 0", "also stands in", "train.extxyz"), command, "recipe.yaml")


def test_other_units_in_test(task, command):
    edit("data/test.extxyz", each(scale(FORCES, 0.0194)))
    assert_refused(("test.extxyz: ", "forces", "0.0194 times", "Convert"), command, "recipe.yaml")


# ---------------------------------------------------------------- run folders

RUN = Path("runs/tiny")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("finetune.lr=0.004", ("finetune.lr is 0.006 there and 0.004 here", "--redo finetune")),
        ("seed=4", ("seed is 3 there and 4 here", "--redo prepare")),
        ("student.hidden_irreps=8x0e", ("student.hidden_irreps is '4x0e+4x1o' there and '8x0e' here",)),
        ("data.e0s={Cu: 0.0, Al: 0.0}", ("data.e0s", "'fitted'")),
        ("teacher={python: 'ase.calculators.lj:LennardJones'}", ("teacher.python", "EMT", "LennardJones")),
        ("forget.keep=0.5", ("forget.keep is 0.0 there and 0.5 here",)),
        ("evaluate.batch_size=3", ("batch_size = 32, now it is 3", "--redo")),
        ("baselines=[{kind: scratch, fit: {epochs: 5}}]", ("epochs = 3, now it is 5", "baseline-scratch/scratch")),
        ("forget.groups=[readout]", ("forget.groups",)),
    ],
)
def test_another_recipe(finished, override, words):
    assert_refused(words, "run", "recipe.yaml", "--set", override)


@pytest.mark.parametrize("name", ["train", "test", "starts"])
def test_other_data(finished, name):
    edit(f"data/{name}.extxyz", lambda frames: frames[:-1])
    assert_refused(("runs/tiny/prepare", f"inputs.{name}", "another name", "--redo prepare"), "run", "recipe.yaml")
    Path(f"data/{name}.extxyz").unlink()
    assert_refused((f"{name}.extxyz", "can't be read", "put it back"), "run", "recipe.yaml")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_model(path: Path) -> None:
    truncate(path / "student.safetensors")


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        ("iter-00/sample/stage.json", lambda path: path.write_text(""), ("is corrupt", "--redo iter-00/sample")),
        ("iter-00/sample/stage.json", truncate, ("is corrupt", "--redo iter-00/sample")),
        ("iter-00/sample/stage.json", lambda path: path.write_text('{"a": 1}'), ("is corrupt", "--redo")),
        ("iter-00/sample/stage.json", lambda path: path.write_text("[1, 2]"), ("is corrupt", "--redo")),
        ("iter-00/sample/stage.json", lambda path: path.unlink(), ("is corrupt", "--redo")),
        ("explore/frames.extxyz", lambda path: path.unlink(), ("is missing or was changed", "--redo explore")),
        ("iter-01/pretrain/model", shutil.rmtree, ("is missing or was changed", "--redo iter-01/pretrain")),
        ("iter-00/select/frames.extxyz", truncate, ("is missing or was changed", "--redo iter-00/select")),
        ("iter-01/finetune/model", cut_model, ("is missing or was changed", "--redo iter-01/finetune")),
        ("model", cut_model, ("is missing or was changed", "--redo model")),
        ("recipe.yaml", lambda path: path.write_text(""), ("is corrupt", "--workdir")),
        ("recipe.yaml", lambda path: path.write_bytes(b"\xff\xfe"), ("is corrupt", "--workdir")),
        ("recipe.yaml", lambda path: path.write_text("a: ]"), ("is corrupt", "--workdir")),
        ("recipe.yaml", lambda path: path.unlink(), ("runs/tiny: is not empty and holds no recipe.yaml", "--workdir")),
    ],
)  # fmt: skip
def test_a_damaged_run_folder(finished, place, change, words):
    change(RUN / place)
    assert_refused((str(RUN / place) if (RUN / place).exists() else "", *words), "run", "recipe.yaml")


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_part(finished, text):
    for stage in ("iter-01", "model", "baseline-teacher", "baseline-scratch", "speed", "report"):
        shutil.rmtree(RUN / stage)
    part = RUN / "iter-01/pretrain.part"
    part.mkdir(parents=True)
    (part / "part.json").write_text(text)
    assert_refused((f"{part}/part.json", "is corrupt", "--redo iter-01/pretrain"), "run", "recipe.yaml")
    assert CliRunner().invoke(main, ["status", str(RUN)]).exit_code == 0


def test_folders_that_are_no_run(task):
    Path("full").mkdir()
    Path("full/thesis.tex").write_text("a life's work")
    Path("file").write_text("")
    assert_refused(("full: is not empty", "--workdir"), "run", "recipe.yaml", "--workdir", "full")
    assert_refused(("file: is a file", "--workdir"), "run", "recipe.yaml", "--workdir", "file")
    assert_refused(("full: is no run folder", "ipip-mace run"), "status", "full")
    assert_refused(("nowhere: is no run folder", "ipip-mace run"), "status", "nowhere")
    assert_refused(("full: is no run folder", "ipip-mace run"), "compare", "full")
    assert_refused(("full: is no run folder", "ipip-mace run"), "track", "full")


def test_a_place_that_cannot_be_written(task, monkeypatch):
    def no(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", no)
    assert_refused(("runs/tiny: can't be written (Permission denied)", "--workdir"), "run", "recipe.yaml")


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("finetun", ("no such stage", "Did you mean finetune?")),
        ("iter-00/finetun", ("no such stage", "Did you mean finetune?")),
        ("iter-07/finetune", ("runs/tiny holds no such stage", "status")),
    ],
)
def test_redo_of_no_stage(finished, stage, words):
    assert_refused((f"--redo {stage}", *words), "run", "recipe.yaml", "--redo", stage)


def test_a_stage_not_reached_has_no_table(finished):
    (RUN / "compare.txt").unlink()
    assert_refused(("runs/tiny: has no comparison yet", "status"), "compare", RUN)
    (RUN / "iter-00/sample/stage.json").write_text("{}")
    assert_refused(("sample/stage.json: is corrupt", "--redo"), "status", RUN)
    (RUN / "events.jsonl").unlink()
    assert_refused(("events.jsonl is not there",), "track", RUN)


# ---------------------------------------------------------------- models and the other commands


@pytest.mark.parametrize("path", ["runs/tiny", "runs/tiny/model"])
def test_a_damaged_model(finished, path):
    cut_model(RUN / "model")
    assert_refused(("student.safetensors: is corrupt", "again"), "evaluate", path, "data/test.extxyz")
    with pytest.raises(ModelFileError, match=r"student\.safetensors: is corrupt"):
        load_calculator(path)
    (RUN / "model/student.json").write_text('{"backend": "mace"}')
    assert_refused(("student.json: is corrupt", "again"), "evaluate", path, "data/test.extxyz")
    (RUN / "model/student.json").write_text("[]")
    assert_refused(("student.json: is corrupt", "again"), "evaluate", path, "data/test.extxyz")
    (RUN / "model/student.json").unlink()
    with pytest.raises(ModelFileError, match=r"no finished model yet|holds no student\.json"):
        load_calculator(path)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nowhere", ("nowhere: no such file or folder", "run folder")),
        ("runs/nowhere", ("runs/nowhere: no such file or folder", "run folder")),
        ("nowhere.model", ("nowhere.model: no such file or folder", ".model file")),
        ("[1, 2]", ("[1, 2]: no such file or folder",)),
        ("7", ("7: no such file or folder",)),
        ("{chgnett: 1}", ("chgnett", "Did you mean chgnet?")),
        ("data", ("data: holds no student.json", "run folder")),
        ("data/test.extxyz", ("test.extxyz: can't be read as a model", "MACE saved")),
        ("no.model", ("no.model: can't be read as a model", "MACE saved")),
        ("cut.model", ("cut.model: can't be read as a model", "MACE saved")),
    ],
)
def test_evaluate_what_is_no_model(finished, model, words):
    Path("no.model").write_bytes(b"")
    shutil.copy(RUN / "model/student.model", "cut.model")
    truncate(Path("cut.model"))
    assert_refused(words, "evaluate", model, "data/test.extxyz")


def test_evaluate_on_no_labels(finished):
    assert_refused(("starts.extxyz: no frame has REF_energy",), "evaluate", RUN, "data/starts.extxyz")
    assert_refused(("nowhere.xyz: no such file",), "evaluate", RUN, "nowhere.xyz")
    assert_refused(("device: tpu",), "evaluate", RUN, "data/test.extxyz", "--device", "tpu")
    edit("data/test.extxyz", each(lambda frame: swap(frame, "Al", "Ni")))
    assert_refused(("does not know Ni", "Al, Cu"), "evaluate", RUN, "data/test.extxyz")


def test_init_keeps_what_is_there(here):
    Path("mine.yaml").write_text("precious")
    assert_refused(("mine.yaml: is there already", "another file"), "init", "mine.yaml")
    assert_refused(("nowhere/mine.yaml: its folder does not exist",), "init", "nowhere/mine.yaml")


def test_ui_without_a_store(here):
    assert_refused(("mlflow.db is not there", "run a recipe first"), "ui")
