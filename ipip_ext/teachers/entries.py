"""Teachers, reference methods and baselines, from a recipe entry.

    chgnet                                    the CHGNet 0.3.0 that its package ships
    {chgnet: r2scan} or {chgnet: file}        another of its models, or one of your own
    xtb or {xtb: GFN1-xTB}                    tight binding by tblite
    {mace: file or name}                      a MACE model file, or a name that mace_mp knows
    {lammps: pair_style, pair_coeff: ["* * file Mo S"], elements: [Mo, S]}
                                              a force field of LAMMPS; elements: of its atom types, in order
    {python: "module:factory", kwargs: {}}    whatever returns an ASE calculator or a Potential
    {python: ..., interpreter: /path/python, workers: 2}
                                              the same in another Python, in so many processes: for codes whose
                                              packages clash with ours, and for slow ones
    {..., executor: vasp}                     of a reference method: the executor of a place file whose nodes run it

Optional packages are imported only when their kind is asked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipip_ext.backends import registry
from ipip_ext.errors import CalculatorError, did_you_mean
from ipip_ext.potentials.base import Potential
from ipip_ext.teachers import factories
from ipip_ext.teachers.ase_potential import AsePotential
from ipip_ext.teachers.interpreter.potential import RemotePotential, check_remote

_DEFAULTS = {"chgnet": "0.3.0", "xtb": "GFN1-xTB", "mace": "", "lammps": "", "python": ""}
"""Kinds, and what each means by its name alone; "" where a name alone says too little."""

_PACKAGES = {"chgnet": ("chgnet", "chgnet"), "xtb": ("tblite", "xtb"), "lammps": ("lammps", "lammps")}
"""Kind -> the module it imports, the extra that installs it."""

_CHGNET_MODELS = ("0.2.0", "0.3.0", "r2scan")
_XTB_METHODS = ("GFN1-xTB", "GFN2-xTB", "IPEA1-xTB")


@dataclass(frozen=True)
class Entry:
    """A parsed recipe entry. target: model name or file, xTB method, pair style, or `module:factory`."""

    kind: str
    target: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    interpreter: str | None = None
    workers: int = 1


def parse(entry: str | Mapping[str, Any]) -> Entry:
    """Return `entry` with its kind and target apart. Raises CalculatorError for an unknown form."""
    options: dict[str, Any] = {entry: _DEFAULTS.get(entry)} if isinstance(entry, str) else dict(entry)
    kwargs: Any = options.pop("kwargs", {}) if "python" in options else {}
    if "lammps" in options:
        kwargs = {key: options.pop(key) for key in _OF_LAMMPS if key in options}
    interpreter, workers = options.pop("interpreter", None), options.pop("workers", 1)
    options.pop("executor", None)  # where it is called decides no label
    if len(options) != 1:
        raise CalculatorError(f"calculator {entry!r}: must hold one kind.{did_you_mean('', _DEFAULTS)}")
    kind, target = next(iter(options.items()))
    if kind not in _DEFAULTS:
        raise CalculatorError(f"calculator {kind}: is unknown.{did_you_mean(str(kind), _DEFAULTS)}")
    target = _DEFAULTS[kind] if target is None else target
    if not isinstance(target, str | int | float | Path) or not str(target):
        raise CalculatorError(f"calculator {kind}: needs a value, such as {_EXAMPLES[kind]}.")
    if not isinstance(kwargs, Mapping):
        raise CalculatorError(f"calculator {kind}: kwargs must be a section of key: value.")
    if kind == "lammps" and not all(_is_list_of_words(kwargs.get(key)) for key in _OF_LAMMPS):
        raise CalculatorError(f"calculator lammps: needs the lists {' and '.join(_OF_LAMMPS)}: {_EXAMPLES[kind]}.")
    _check_interpreter(kind, interpreter, workers)
    return Entry(kind, str(target), dict(kwargs), None if interpreter is None else str(interpreter), workers)


def _check_interpreter(kind: str, interpreter: Any, workers: Any) -> None:
    if not isinstance(workers, int) or isinstance(workers, bool) or not 1 <= workers <= 256:
        raise CalculatorError(f"calculator {kind}: workers must be a number of processes, 1 to 256.")
    if interpreter is None and workers > 1:
        raise CalculatorError(f"calculator {kind}: workers needs interpreter: /path/to/python, which runs them.")
    if interpreter is not None and kind != "python":
        raise CalculatorError(
            f"calculator {kind}: interpreter goes with python: 'module:factory' of that interpreter,"
            ' such as {python: "gpaw:GPAW", interpreter: /usr/bin/python3}.'
        )


def _is_list_of_words(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(word, str) for word in value)


_PLACES = ("interpreter", "workers", "executor")
"""Keys that say where a calculator is called."""

_OF_LAMMPS = ("pair_coeff", "elements")
_EXAMPLES = {
    "chgnet": "{chgnet: 0.3.0}",
    "xtb": "{xtb: GFN1-xTB}",
    "mace": "{mace: medium-mpa-0}",
    "lammps": '{lammps: sw/mod, pair_coeff: ["* * tmd.sw.mod Mo S"], elements: [Mo, S]}',
    "python": '{python: "ase.calculators.emt:EMT"}',
}


def describe(entry: str | Mapping[str, Any]) -> str:
    """Return a short name for tables: `chgnet`, `xtb:GFN1-xTB`, `mace:model`, `lammps:sw/mod`, `python:EMT`."""
    parsed = parse(entry)
    if parsed.kind == "chgnet" and parsed.target == _DEFAULTS["chgnet"]:
        return parsed.kind
    if parsed.kind == "python":
        return f"python:{parsed.target.rpartition(':')[2]}"
    if parsed.kind == "lammps":
        return f"lammps:{parsed.target.split()[0]}"
    target = Path(parsed.target).stem if _is_file_name(parsed.target) else parsed.target
    return f"{parsed.kind}:{target}"


def identity(entry: str | Mapping[str, Any], root: Path | None = None) -> Any:
    """Return `entry` as what decides its labels: files count by content, not by place; processes don't count.

    root: the recipe's folder, where relative files are looked for.
    """
    return entry if isinstance(entry, str) else _Decisive(entry, root)


class _Decisive(dict[str, Any]):
    """A calculator entry that knows which of its keys decide what it computes."""

    def __init__(self, entry: Mapping[str, Any], root: Path | None) -> None:
        super().__init__(entry)
        self._root = root or Path()

    def fingerprint(self) -> dict[str, Any]:
        return {key: self._content(key, value) for key, value in self.items() if key not in _PLACES}

    def _content(self, key: str, value: Any) -> Any:
        file = self._root / str(value)
        if key in ("mace", "chgnet"):
            return file if file.is_file() else value
        if key == "pair_coeff" and "lammps" in self:
            from ipip_ext.teachers.lammps.potential import with_files

            return [with_files(line, self._root) for line in value]
        return value


def executor_of(entry: str | Mapping[str, Any]) -> str:
    """Return the executor that `entry` names, "" for none. Raises CalculatorError for one that is no name."""
    found = "" if isinstance(entry, str) else entry.get("executor", "")
    if not isinstance(found, str):
        raise CalculatorError(f"calculator: executor must be a name of the place file, not {found!r}.")
    return found


def check(entry: str | Mapping[str, Any], root: Path | None = None) -> list[str]:
    """Check all that can be checked without loading weights; return notes for the user.

    root: the recipe's folder, where relative files and factories are looked for.
    Raises CalculatorError that says what is wrong and how to mend it.
    """
    parsed = parse(entry)
    _require_package(parsed.kind)
    if parsed.kind == "xtb" and parsed.target not in _XTB_METHODS:
        raise CalculatorError(f"xtb: method {parsed.target} is unknown.{did_you_mean(parsed.target, _XTB_METHODS)}")
    if parsed.kind == "chgnet":
        _chgnet_source(parsed.target, root)
    if parsed.kind == "mace":
        _mace_source(parsed.target, root)
    if parsed.kind == "lammps":
        from ipip_ext.teachers.lammps.potential import check_force_field

        check_force_field(parsed.target, root=root, **parsed.kwargs)
    if parsed.interpreter is not None:
        check_remote(_program(parsed.interpreter, root), parsed.target, root)
    elif parsed.kind == "python":
        factories.check(parsed.target, root)
    if parsed.target == "GFN2-xTB":
        return ["GFN2-xTB of periodic frames needs a recent tblite (0.8 does it); GFN1-xTB works with all."]
    return []


def make(entry: str | Mapping[str, Any], *, device: str, root: Path | None = None) -> Potential:
    """Return the potential that `entry` names, loaded on `device` where it can use one.

    Raises CalculatorError as `check` does, and if the calculator can't be built.
    """
    parsed, name = parse(entry), describe(entry)
    if parsed.interpreter is not None:  # its processes import the factory, and complain as `check` would
        program = _program(parsed.interpreter, root)
        return RemotePotential(
            program, parsed.target, parsed.kwargs, name, workers=parsed.workers, root=root
        )  # fmt: skip
    check(entry, root)
    if parsed.kind == "chgnet":
        from ipip_ext.teachers.chgnet.potential import ChgnetPotential

        return ChgnetPotential.load(_chgnet_source(parsed.target, root), device, name)
    if parsed.kind == "xtb":
        from ipip_ext.teachers.xtb import XtbCalculator

        # without the cache each frame starts from scratch, so its labels depend on nothing else
        return AsePotential(XtbCalculator(method=parsed.target, verbosity=0, cache_api=False), name)
    if parsed.kind == "mace":
        return registry.backend("mace").foundation(str(_mace_source(parsed.target, root)), device)
    if parsed.kind == "lammps":
        from ipip_ext.teachers.lammps.potential import LammpsPotential

        return LammpsPotential(parsed.target, name=name, root=root, **parsed.kwargs)
    return factories.build(parsed.target, parsed.kwargs, name, root)


def _require_package(kind: str) -> None:
    module, extra = _PACKAGES.get(kind, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        raise CalculatorError(f'{kind}: {module} is not installed; pip install "ipip-mace[{extra}]".')


def _is_file_name(target: str) -> bool:
    return "/" in target or target.endswith((".model", ".pt", ".pth", ".tar"))


def _chgnet_source(target: str, root: Path | None) -> str | Path:
    path = (root or Path()) / target
    if target in _CHGNET_MODELS:
        return target
    if not path.is_file():
        raise CalculatorError(
            f"chgnet: {target} is neither a file nor a model's name.{did_you_mean(target, _CHGNET_MODELS)}"
        )
    return path


def _mace_source(target: str, root: Path | None) -> str | Path:
    path = (root or Path()) / target
    if path.is_file():
        return path
    if _is_file_name(target):
        raise CalculatorError(f"mace: {path}: no such file; check the path, which is relative to the recipe.")
    return target


def _program(interpreter: str, root: Path | None) -> Path:
    """Return the interpreter; a relative path is taken from the recipe, a bare name from PATH."""
    if "/" not in interpreter:
        return Path(interpreter)
    return (root or Path()) / Path(interpreter).expanduser()
