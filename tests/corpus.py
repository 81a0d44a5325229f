"""Malformed inputs, made by hand and by seeded mutation of valid ones, and what has to come of each.

A case damages one file of a valid task or of a finished run and names the command that reads it. `judge` runs that
command in this process. What is refused must be refused in one line that names the file, a file that the recipe names,
or a recipe key; with exit code 2 and every file as it was. What a mutation left valid must be accepted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml
from click.testing import CliRunner, Result

from ipip_ext.cli import main as cli
from ipip_ext.cli.options import FILE

EMT = "{python: 'ase.calculators.emt:EMT'}"
MD = ("md", EMT, "data/starts.extxyz", "--time-ps", "0.002", "--out", "walked")
HUNG_AFTER_S = 60
"""Seconds of processor time after which a reader counts as hung; the slowest case takes a tenth of that."""

RUN = "runs/tiny"
Damage = Callable[[bytes], bytes | None]


@dataclass(frozen=True)
class Case:
    """One damaged file and the command that reads it. damage: returns None for a file that is gone.

    valid: whether the command may also accept what is left. says: words of which the refusal must hold one.
    """

    name: str
    file: str
    damage: Damage
    command: tuple[str, ...]
    says: tuple[str, ...]
    valid: bool = False


class Wrong(AssertionError):
    """What came of a case is not what has to."""


class _Hung(BaseException):
    """A reader that does not end."""


@click.group(cls=cli.Commands)
def readers() -> None:
    """Of `check` all but the forecast of the cost, which trains a student for a moment."""


@readers.command()
@click.argument("recipe", type=FILE)
def check(recipe: Path) -> None:
    from ipip_ext.admission import on_this_machine
    from ipip_ext.api.recipes import admitted
    from ipip_ext.check import preflight
    from ipip_ext.recipe.file import load_recipe

    loaded = load_recipe(recipe)
    admitted(loaded, trusted=False)
    preflight.check(on_this_machine(loaded))


def judge(case: Case, folder: Path) -> bool:
    """Return whether `case` is refused in `folder`, which is left as it was. Raises Wrong if it is neither refused
    cleanly nor accepted.
    """
    path, says = folder / case.file, case.says
    if case.file == "recipe.yaml":
        says = (*says, str(folder.resolve()))  # a path in it
    whole = path.read_bytes()
    damaged = case.damage(whole)
    path.unlink() if damaged is None else path.write_bytes(damaged)
    before = contents(folder)
    try:
        with contextlib.chdir(folder):
            done = _invoke(case)
        after = contents(folder)
        refused = _refused(case, done, says)
        if refused and after != before:
            changed = sorted(set(before.items()) ^ set(after.items()))
            raise Wrong(f"{case.name}: refused, but changed {changed[0][0]}")
        if not refused and not case.valid:
            raise Wrong(f"{case.name}: accepted: {done.output[-300:]}")
    finally:
        path.write_bytes(whole)
        if case.command == MD:
            shutil.rmtree(folder / "walked", ignore_errors=True)
    return refused


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file in `folder`, by its place."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _invoke(case: Case) -> Result:
    main = readers if case.command[0] == "check" else cli.main
    try:
        with _limited():
            done = CliRunner().invoke(main, list(case.command))
    except _Hung:
        raise Wrong(f"{case.name}: still at work after {HUNG_AFTER_S} s of processor time") from None
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise Wrong(f"{case.name}: {type(done.exception).__name__}: {done.exception}") from done.exception
    return done


def _refused(case: Case, done: Result, says: Sequence[str]) -> bool:
    if case.command[0] == "verify" and done.exit_code == 1:  # what a run claims may be wrong, in a folder that is whole
        lines = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    elif done.exit_code == 2:
        lines = [line for line in done.stderr.splitlines() if ": unpickles " not in line]
        if len(lines) != 1 or not lines[0].startswith("error: "):
            raise Wrong(f"{case.name}: not one line of error: {done.stderr[-500:]}")
    elif done.exit_code == 0 or (done.exit_code == 1 and _is_beyond(case, done)):
        return False
    else:
        raise Wrong(f"{case.name}: exit code {done.exit_code}: {done.output[-300:]}")
    if "Traceback" in done.output or not any(word in line for word in says for line in lines):
        raise Wrong(f"{case.name}: names none of {', '.join(says)}: {' '.join(lines)[-400:]}")
    return True


def _is_beyond(case: Case, done: Result) -> bool:
    """Return whether the frames are sound, and beyond what this calculator can do: Al may have become Am."""
    return (
        case.command == EVALUATE and case.valid and done.stderr.startswith("failed: ") and "no label for" in done.stderr
    )


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _Hung

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, HUNG_AFTER_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# ---------------------------------------------------------------- which command reads what

CHECK, STATUS, VERIFY, COMPARE = ("check", "recipe.yaml"), ("status", RUN), ("verify", RUN), ("compare", RUN)
TRACK = ("track", RUN)
EVALUATE = ("evaluate", EMT, "data/test.extxyz")
STUDENT = ("evaluate", f"{RUN}/model", "data/test.extxyz")
AGAIN = ("run", "recipe.yaml")
OF_FRAMES = (("train", CHECK), ("test", CHECK), ("starts", CHECK), ("test", EVALUATE), ("starts", MD))
OF_A_RUN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("recipe.yaml", COMPARE), ("recipe.yaml", TRACK), ("recipe.yaml", AGAIN), ("compare.csv", COMPARE),
    ("compare.csv", VERIFY), ("events.jsonl", STATUS), ("events.jsonl", TRACK), ("prepare/stage.json", COMPARE),
    ("prepare/stage.json", AGAIN), ("iter-00/pretrain/stage.json", AGAIN), ("iter-00/select/frames.extxyz", AGAIN),
    ("iter-01/evaluate/forces.npz", VERIFY), ("model/student.safetensors", VERIFY), ("prepare/test.extxyz", VERIFY),
    *((f"{stage}/stage.json", command) for stage in ("prepare", "iter-00/finetune", "report")
      for command in (STATUS, VERIFY)),
)  # fmt: skip
"""A file of the run, and a command that reads it."""

OF_RUN_FILES = ("gone", "empty", "half a zero page", "random", "lfs pointer", "deep")
"""What becomes of them; events are the log of a run that may have been killed, so their lines may be anything."""


def _of_frames(name: str, what: str, command: tuple[str, ...], damage: Damage, *, valid: bool = False) -> Case:
    file = f"data/{what}.extxyz"
    says = (file, "starts.extxyz") if command == MD else (file,)
    return Case(f"{name}-{what}-{command[0]}", file, damage, command, says, valid)


def _of_run(name: str, file: str, command: tuple[str, ...], damage: Damage, *, valid: bool = False) -> Case:
    says = (Path(file).name, RUN, file.rpartition("/")[0] or RUN, "recipe.yaml", "is the output of no stage")
    return Case(f"{name}-{file}-{command[0]}", f"{RUN}/{file}", damage, command, says, valid)


# ---------------------------------------------------------------- by hand


def text(change: Callable[[str], str]) -> Damage:
    return lambda whole: change(whole.decode()).encode()


def sub(pattern: str, new: str, count: int = 1) -> Damage:
    def damage(whole: bytes) -> bytes:
        changed, hits = re.subn(pattern.encode(), new.encode(), whole, count=count, flags=re.M)
        assert hits, pattern
        return changed

    return damage


NO_TEXT: dict[str, Damage] = {
    "gone": lambda _: None,
    "empty": lambda _: b"",
    "blank": lambda _: b"\n \n\n",
    "zeros": lambda _: bytes(4096),
    "half a zero page": lambda whole: whole[: len(whole) // 2] + bytes(512),
    "random": lambda _: random.Random(5).randbytes(3000),  # noqa: S311 - no secret
    "utf-16": lambda whole: whole.decode(errors="replace").encode("utf-16"),
    "png": lambda _: b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "gzip": lambda _: b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    "html": lambda _: b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n",
    "lfs pointer": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
    "merge conflict": lambda whole: b"<<<<<<< HEAD\n" + whole[:200] + b"\n=======\n" + whole + b">>>>>>> theirs\n",
    "pickle": lambda _: b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    "deep": lambda _: b"[" * 1_500,
    "deep map": lambda _: b"{a: " * 1_500,
}
"""What is no text of the kind that is wanted."""

FRAMES: dict[str, Damage] = {
    "count too large": sub(r"\A4$", "5"),
    "count too small": sub(r"\A4$", "3"),
    "count negative": sub(r"\A4$", "-4"),
    "count without end": sub(r"\A4$", "999999999999999"),
    "count is a word": sub(r"\A4$", "four"),
    "count is no whole number": sub(r"\A4$", "4.0"),
    "columns without end": sub(r"pos:R:3", "pos:R:33109023"),
    "columns negative": sub(r"pos:R:3", "pos:R:-3"),
    "no columns": sub(r"pos:R:3", "pos:R:0"),
    "columns of an unknown kind": sub(r"pos:R:3", "pos:Q:3"),
    "no species": sub(r"species:S:1:", ""),
    "an unknown element": sub(r"^Cu ", "Qq "),
    "an element called X": sub(r"^Cu ", "X "),
    "element is a number too large": sub(r"^Cu ", "999 "),
    "positions are words": sub(r"^Al +\S+", "Al here"),
    "a position is NaN": sub(r"^Al +\S+", "Al nan"),
    "a position is infinite": sub(r"^Al +\S+", "Al inf"),
    "a position overflows": sub(r"^Al +\S+", "Al 1e999"),
    "a column is missing": sub(r" +\S+$\nCu", "\nCu"),
    "lattice of eight": sub(r'Lattice="\S+ ', 'Lattice="'),
    "lattice of words": sub(r'Lattice="\S+', 'Lattice="a'),
    "lattice of NaN": sub(r'Lattice="\S+', 'Lattice="nan'),
    "lattice of zeros": sub(r'Lattice="[^"]*"', 'Lattice="0 0 0 0 0 0 0 0 0"'),
    "lattice left open": sub(r'Lattice="([^"]*)"', r'Lattice="\1'),
    "pbc of words": sub(r'pbc="T T T"', 'pbc="yes please no"'),
    "pbc of five": sub(r'pbc="T T T"', 'pbc="T T T T T"'),
    "JSON left open": sub(r'pbc="T T T"', 'pbc="T T T" tags="_JSON {"'),
    "an empty line between frames": sub(r"\n4\n", "\n\n4\n"),
    "an empty line in a frame": sub(r"\nAl", "\n\nAl"),
    "a comment above": lambda whole: b"# made by a script\n" + whole,
    "cut in a number": lambda whole: whole[:-20],
    "cut after a header": lambda whole: whole + b"4\n",
    "text behind": lambda whole: whole + b"the end\n",
    "decimal commas": lambda whole: whole.replace(b".", b","),
    "a NUL byte": sub(r"^Al ", "Al\x00 "),
}  # fmt: skip
"""Of a file of frames, whatever it is for."""

LABELS: dict[str, Damage] = {
    "columns cut": sub(r"REF_forces:R:3", "REF_forces:R"),
    "column twice": sub(r"REF_forces:R:3", "pos:R:3"),
    "energy is gone": sub(r" REF_energy=\S+", "", 0),
    "energy of one is gone": sub(r" REF_energy=\S+", ""),
    "energy is NaN": sub(r"REF_energy=\S+", "REF_energy=nan"),
    "energy overflows": sub(r"REF_energy=\S+", "REF_energy=-1e999"),
    "energy is a word": sub(r"REF_energy=\S+", "REF_energy=unconverged"),
    "energy is nothing": sub(r"REF_energy=\S+", "REF_energy="),
    "energy is a list": sub(r"REF_energy=\S+", 'REF_energy="1.0 2.0"'),
    "energy is true": sub(r"REF_energy=\S+", "REF_energy=T"),
    "forces are gone": sub(r":REF_forces:R:3", "", 0),
    "forces have another name": sub(r"REF_forces", "forces_dft", 0),
    "forces of one are gone": sub(r":REF_forces:R:3", ""),
    "forces of two columns": sub(r"REF_forces:R:3", "REF_forces:R:2"),
    "a force is NaN": sub(r"\S+$\nCu", "nan\nCu"),
    "a force overflows": sub(r"\S+$\nCu", "1e999\nCu"),
}
"""Of labelled frames."""

MEASURED_WITHOUT = (
    "columns cut", "energy is gone", "energy of one is gone", "forces are gone", "forces have another name",
    "forces of one are gone",
)  # fmt: skip
"""Of these `evaluate` says which labels are missing, and measures the others; training refuses them."""

VALUES: tuple[tuple[str, Any], ...] = (
    ("name", ""), ("name", "a/b"), ("name", "."), ("name", None), ("name", 3), ("name", ["x"]), ("name", "x" * 5000),
    ("seed", -1), ("seed", 1.5), ("seed", "three"), ("seed", None),
    ("device", "cuda:x"), ("device", 0), ("threads", 0), ("threads", -1), ("threads", "all"),
    ("iterations", 0), ("iterations", -2), ("iterations", "two"), ("iterations", float("inf")),
    ("min_improvement", "much"), ("min_improvement", float("nan")),
    ("data", None), ("data", 7), ("data.train", ""), ("data.train", "\0"), ("data.train", "/dev/null"),
    ("data.train", "recipe.yaml"), ("data.train", "data"), ("data.train", {"a": 1}), ("data.train", "x" * 5000),
    ("data.test", "data/*.extxyz"), ("data.test", ["a", "b"]), ("data.test", "data/train.extxyz"),
    ("data.valid", "data/test.extxyz"), ("data.valid_fraction", 0), ("data.valid_fraction", 1),
    ("data.valid_fraction", "a quarter"), ("data.valid_split", "by hand"), ("data.split_keys", "start"),
    ("data.energy_key", ""), ("data.energy_key", 5), ("data.forces_key", "nothing"), ("data.stress_key", "nothing"),
    ("data.n_train", 0), ("data.n_train", 10**9), ("data.n_train", 2.5), ("data.e0s", []), ("data.e0s", {"Cu": "x"}),
    ("data.e0s", {"Cu": 1.0}), ("data.e0s", "isolated_atoms"), ("data.max_force_eV_per_A", -1),
    ("data.max_force_eV_per_A", 1e-9), ("data.ood", "s2"), ("data.ood", {"key": "start"}),
    ("data.ood", {"key": "start", "values": "s2"}), ("data.ood", {"key": None, "values": []}),
    ("teacher", None), ("teacher", []), ("teacher", {}), ("teacher", {"python": None}), ("teacher", {"python": ""}),
    ("teacher", {"python": ":"}), ("teacher", {"python": "a:b:c"}), ("teacher", {"python": "..:x"}),
    ("teacher", {"python": "os:getcwd"}), ("teacher", {"python": "ase.calculators.emt:EMT", "workers": 0}),
    ("teacher", {"python": "ase.calculators.emt:EMT", "workers": 2}), ("teacher", {"mace": "\0"}),
    ("teacher", {"python": "ase.calculators.emt:EMT", "interpreter": "/no/python"}), ("teacher", {"mace": "data"}),
    ("teacher", {"mace": "recipe.yaml"}), ("teacher", {"lammps": "sw"}), ("teacher", {"chgnet": []}),
    ("teacher", {3: 4}),
    ("student", None), ("student", "mace"), ("student.backend", 3), ("student.backend", None),
    ("student.hidden_irreps", ""), ("student.hidden_irreps", 16), ("student.hidden_irreps", "4x0e+"),
    ("student.hidden_irreps", "4x1o"), ("student.max_ell", -1), ("student.max_ell", 99), ("student.correlation", 0),
    ("student.r_max_A", 0), ("student.r_max_A", -5), ("student.r_max_A", "five"), ("student.radial_MLP", 8),
    ("student.radial_MLP", [0]), ("student.num_bessel", 0), ("student.dtype", "float16"),
    ("explore", None), ("explore.starts", None), ("explore.starts", "data/none.extxyz"), ("explore.n_steps", 0),
    ("explore.n_steps", 1.5), ("explore.temperatures_K", [0]), ("explore.temperatures_K", [[300, 900, 3]]),
    ("explore.temperatures_K", "600"), ("explore.frame_every", 0), ("explore.replicas", 0),
    ("explore.replicas", 10**9), ("evaluate.speed_supercell", [10**9, 1, 1]), ("explore.kick_fraction", 2),
    ("explore.timestep_fs", "1 fs"), ("explore.ensemble", None), ("explore.guard", []), ("explore.guard.max_force", 1),
    ("explore.max_batch_replicas", 0), ("explore.strain", 5), ("sample", []), ("sample", {"starts": 3}),
    ("pretrain", []), ("pretrain.epochs", 0), ("pretrain.batch_size", 0), ("pretrain.lr", 0), ("pretrain.lr", "1e-3x"),
    ("pretrain.schedule", "linear"), ("pretrain.valid_fraction", 1), ("pretrain.source_weights", [1]),
    ("finetune.freeze", "readouts"), ("finetune.lr_factors", {"readouts": -1}), ("finetune.ema_decay", 1.5),
    ("finetune.replay_fraction", 1.0), ("finetune.patience", 0), ("select.max_frames", 0), ("select", 3),
    ("label.policy", "best"), ("label.reference", {}), ("forget.keep", "no"),
    ("forget.groups", "readouts"), ("forget.groups", ["nothing"]), ("committee.size", 1), ("committee", True),
    ("baselines", {}), ("baselines", [None]), ("baselines", [[]]), ("baselines", [{}]), ("baselines", ["teacher"]),
    ("baselines", [{"kind": None}]), ("baselines", [{"kind": "calculator"}]), ("baselines", [{"kind": ["teacher"]}]),
    ("evaluate.batch_size", 0), ("evaluate.speed_supercell", [2, 2]), ("evaluate.speed_supercell", [0, 1, 1]),
    ("evaluate.speed_steps", -1), ("evaluate.stability", {"time_ps": -1}), ("tracking", "yes"), ("tracking.uri", 5),
    ("tracking.enabled", "perhaps"), ("correct.form", "magic"), ("correct", None), ("", 1), ("a", 1), ("1", 2),
)  # fmt: skip
"""A recipe key and a value that it can't have."""

RECIPES: dict[str, Damage] = {
    "tabs": sub(r"^  ", "\t", 0),
    "a key twice": lambda whole: whole + b"seed: 4\n",
    "a section twice": lambda whole: whole + b"data: {}\n",
    "two documents": lambda whole: whole + b"---\nname: b\n",
    "an anchor that is not there": lambda whole: whole + b"sample: *explore\n",
    "an alias to itself": lambda whole: whole + b"sample: &s\n  starts: *s\n",
    "a Python object": lambda whole: whole + b"sample: !!python/object/apply:os.getcwd []\n",
    "a tag": lambda whole: whole + b"sample: !mine {}\n",
    "a set": lambda whole: whole + b"sample: !!set {a, b}\n",
    "a date": sub(r"^name: tiny", "name: 2024-01-01"),
    "a key that is a list": lambda whole: whole + b"? [a, b]\n: 1\n",
    "a key that is a map": lambda whole: whole + b"? {a: b}\n: 1\n",
    "a key that is nothing": lambda whole: whole + b"? \n: 1\n",
    "a merge of nothing": lambda whole: whole + b"<<: 3\n",
    "an alias without end": lambda whole: whole + b"select: &a [*a]\n",
    "a billion laughs": lambda whole: whole + _laughs().encode(),
    "no space behind a colon": sub(r"^seed: 3", "seed:3"),
    "an open quote": sub(r"^name: tiny", 'name: "tiny'),
    "an open bracket": sub(r"^name: tiny", "name: [tiny"),
    "a control character": sub(r"^name: tiny", "name: ti\x07ny"),
    "JSON with a comma too many": lambda whole: json.dumps(yaml.safe_load(whole)).replace("}", ",,}").encode(),
    "a list of recipes": lambda whole: yaml.safe_dump([yaml.safe_load(whole)]).encode(),
    "a string": lambda _: b"name tiny\n",
    "a number": lambda _: b"7\n",
    "a byte order mark inside": sub(r"^name: tiny", "name: \ufefftiny"),
}

SPECS: dict[str, Damage] = {
    "no config": text(lambda t: json.dumps({k: v for k, v in json.loads(t).items() if k != "config"})),
    "no species": text(lambda t: json.dumps({**json.loads(t), "atomic_numbers": []})),
    "species of nothing": text(lambda t: json.dumps({**json.loads(t), "atomic_numbers": None})),
    "other species": text(lambda t: json.dumps({**json.loads(t), "atomic_numbers": [13, 29, 30]})),
    "species that don't exist": text(lambda t: json.dumps({**json.loads(t), "atomic_numbers": [13, 999]})),
    "zeros of words": text(lambda t: json.dumps({**json.loads(t), "e0s_eV": ["a", "b"]})),
    "zeros too few": text(lambda t: json.dumps({**json.loads(t), "e0s_eV": [0.0]})),
    "zeros of NaN": text(lambda t: json.dumps({**json.loads(t), "e0s_eV": [float("nan")] * 2})),
    "neighbours of nothing": text(lambda t: json.dumps({**json.loads(t), "avg_num_neighbors": None})),
    "no neighbours": text(lambda t: json.dumps({**json.loads(t), "avg_num_neighbors": 0})),
    "a scale of NaN": text(lambda t: json.dumps({**json.loads(t), "force_scale_eV_per_A": float("nan")})),
    "another shape": text(lambda t: json.dumps({**json.loads(t), "shape": {"a": 1}})),
    "a shape of words": text(lambda t: json.dumps({**json.loads(t), "shape": "round"})),
    "another backend": text(lambda t: json.dumps({**json.loads(t), "backend": "nequip"})),
    "a backend of nothing": text(lambda t: json.dumps({**json.loads(t), "backend": None})),
    "a later format": text(lambda t: json.dumps({**json.loads(t), "format": 99})),
    "other channels": sub("4x0e", "8x0e"),
}  # fmt: skip

WEIGHTS: dict[str, Damage] = {
    "a header without end": lambda whole: (2**62).to_bytes(8, "little") + whole[8:],
    "a header of nothing": lambda whole: bytes(8) + whole[8:],
    "a header that is no JSON": lambda whole: whole[:8] + b"x" + whole[9:],
    "one byte short": lambda whole: whole[:-1],
    "one byte long": lambda whole: whole + b"\0",
    "another dtype": lambda whole: whole.replace(b'"F32"', b'"I32"', 1),
    "a tensor renamed": lambda whole: whole.replace(b"weight", b"weighs", 1),
}


def _laughs() -> str:
    lines = ["sample: &a0 [x, x]"] + [f"l{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(lines) + "\n"


def put(key: str, value: Any) -> Damage:
    """Return what sets a dotted key of a recipe."""

    def damage(whole: bytes) -> bytes:
        recipe = yaml.safe_load(whole)
        *sections, last = key.split(".")
        here = recipe
        for section in sections:
            here = here.setdefault(section, {})
        here[last] = value
        return yaml.safe_dump(recipe, sort_keys=False).encode()

    return damage


def by_hand() -> list[Case]:
    """Return the cases of a task, each of which must be refused."""
    cases = [Case(f"recipe: {n}", "recipe.yaml", d, CHECK, ("recipe.yaml",)) for n, d in {**NO_TEXT, **RECIPES}.items()]
    cases += [
        Case(
            f"recipe: {key}={str(value)[:90]}",
            "recipe.yaml",
            put(key, value),
            CHECK,
            ("recipe.yaml", "data", "/dev/null", "is a folder"),
        )
        for key, value in VALUES
    ]
    for what, command in OF_FRAMES:
        cases += [_of_frames(n, what, command, d) for n, d in {**NO_TEXT, **FRAMES}.items()]
    for what, command in (("train", CHECK), ("test", EVALUATE)):
        cases += [
            _of_frames(n, what, command, d)
            for n, d in LABELS.items()
            if command == CHECK or n not in MEASURED_WITHOUT  # those are measured for the labels that they have
        ]
    return cases


def by_hand_of_a_run() -> list[Case]:
    """Return the cases of a finished run, each of which must be refused."""
    cases = [_of_run(n, "model/student.json", STUDENT, d) for n, d in {**NO_TEXT, **SPECS}.items()]
    cases += [_of_run(n, "model/student.safetensors", STUDENT, d) for n, d in {**NO_TEXT, **WEIGHTS}.items()]
    for file, command in OF_A_RUN:
        lenient = file == "events.jsonl"
        cases += [
            _of_run(n, file, command, NO_TEXT[n], valid=lenient or (n == "gone" and command == STATUS))
            for n in OF_RUN_FILES
        ]
    return cases


# ---------------------------------------------------------------- by mutation

NUMBERS = (
    "nan", "inf", "-inf", "-1", "0", "-0", "1e999", "1e-400", "99999999999999999999", "0x10", "1_0", "", "1,5", "+",
    ".", "1e", "٣", "T", "None", "null", "true", "~", "'1'", "1 2",
)  # fmt: skip
VALUES_OF_ANY_KIND: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2.5, 1e308, -1e-308, 10**30, float("nan"), float("inf"), "", " ", "x", "0", "nan",
    "../x", "é\n\t", "x" * 400, [], {}, [[]], [None], {"a": 1}, {"kind": "teacher"}, [1, "a", {}],
)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+\.?\d*(?:e[-+]?\d+)?")


def mutated(n: int, seed: int) -> Iterator[Case]:
    """Yield `n` seeded mutations for a task."""
    targets = [("recipe.yaml", CHECK), ("recipe.yaml", CHECK), *((f"data/{w}.extxyz", c) for w, c in OF_FRAMES)]
    targets += [("data/test.extxyz", EVALUATE)] * 3 + [("data/starts.extxyz", MD)] * 2
    yield from _mutations(n, seed, targets, ("recipe.yaml", "data"))


def mutated_of_a_run(n: int, seed: int, *, thorough: bool = False) -> Iterator[Case]:
    """Yield `n` seeded mutations for a finished run; with `thorough` those whose reader takes seconds too."""
    quick = [(file, command) for file, command in OF_A_RUN if command in (STATUS, COMPARE, TRACK)]
    slow = [*OF_A_RUN, ("model/student.json", STUDENT), ("model/student.safetensors", STUDENT)]
    targets = [(f"{RUN}/{file}", command) for file, command in (slow if thorough else quick)]
    says = (
        "recipe.yaml",
        ".json",
        ".csv",
        ".extxyz",
        ".npz",
        ".png",
        RUN,
        "is the output of no stage",
        "errors of",
        "safetensors",
    )
    yield from _mutations(n, seed, targets, says)


def _mutations(
    n: int, seed: int, targets: Sequence[tuple[str, tuple[str, ...]]], says: tuple[str, ...]
) -> Iterator[Case]:  # fmt: skip
    for index in range(n):
        file, command = targets[index % len(targets)]

        def damage(whole: bytes, index: int = index, file: str = file) -> bytes:
            return mutate(whole, file, random.Random(f"{seed}/{index}"))  # noqa: S311 - no secret

        yield Case(f"mutation {seed}/{index} of {file} for {command[0]}", file, damage, command, says, valid=True)


def mutate(whole: bytes, file: str, rng: random.Random) -> bytes:
    """Return `whole` with one to three changes: of its values where it is YAML or JSON, or else of its text."""
    if file.endswith((".yaml", ".json")) and rng.random() < 0.6:
        tree = yaml.safe_load(whole) if file.endswith(".yaml") else json.loads(whole)
        for _ in range(rng.choice((1, 1, 2))):
            _change_value(tree, rng)
        return (yaml.safe_dump(tree, sort_keys=False) if file.endswith(".yaml") else json.dumps(tree)).encode()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        whole = rng.choice(_TEXT_CHANGES)(whole, rng) or b"\n"
    return whole


def _change_value(tree: Any, rng: random.Random) -> None:
    places = list(_places(tree))
    if not places:
        return
    holder, key = rng.choice(places)
    deed = rng.choice(("set", "set", "set", "drop", "rename", "wrap"))
    if deed == "set":
        holder[key] = rng.choice(VALUES_OF_ANY_KIND)
    elif deed == "drop":
        del holder[key]
    elif deed == "wrap":
        holder[key] = [holder[key]]
    elif isinstance(holder, dict):
        holder[f"{key}_"] = holder.pop(key)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _flip(whole: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(whole))
    return whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]


def _cut(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(len(whole))]


def _drop(whole: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(whole))
    return whole[:at] + whole[at + rng.randint(1, 40) :]


def _double(whole: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(whole))
    some = whole[at : at + rng.randint(1, 200)]
    return whole[:at] + some + whole[at:]


def _insert(whole: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(whole))
    return whole[:at] + rng.randbytes(rng.randint(1, 6)) + whole[at:]


def _number(whole: bytes, rng: random.Random) -> bytes:
    found = list(_NUMBER.finditer(whole))
    if not found:
        return whole
    one = rng.choice(found)
    return whole[: one.start()] + rng.choice(NUMBERS).encode() + whole[one.end() :]


def _line(whole: bytes, rng: random.Random) -> bytes:
    lines = whole.split(b"\n")
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    line = lines.pop(at)
    if rng.random() < 0.6:
        lines.insert(to, line)
        if rng.random() < 0.5:
            lines.insert(at, line)
    return b"\n".join(lines)


_TEXT_CHANGES = (_flip, _cut, _drop, _double, _insert, _number, _number, _number, _line, _line)
