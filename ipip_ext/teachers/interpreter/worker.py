"""The far side of `process.py`: an ASE calculator in another Python, asked over pipes.

Run as a file by whatever interpreter the recipe names, so it needs Python 3.8, numpy and ASE there, and
nothing of ipip_ext. A line of JSON comes in, a line of JSON goes out; Python writes floats so that they are
read back bitwise. Whatever the calculator prints goes to stderr.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import queue
import sys
import threading
import traceback
from typing import Any, NoReturn


def main() -> None:
    """Make the calculator that the first line asks for, then label frames until whoever asks is gone."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # codes print what they like, also from C
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    order = json.loads(requests.get())
    calculator: Any = None
    try:
        factory = _find(order["factory"], order["folder"])
        if order["build"]:
            calculator = _make(factory, order["kwargs"])
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing a stranger's module may do anything
        _say(answers, {"error": _in_words(error)})
        return
    _say(answers, {"versions": _versions(order["factory"]), "batched": hasattr(calculator, "compute")})
    while True:
        wanted = json.loads(requests.get())
        _say(answers, {"labels": _label(calculator, [_structure(f) for f in wanted["frames"]], wanted["stress"])})


def _listen(requests: queue.Queue[str]) -> NoReturn:
    """Pass requests on; when whoever sends them is gone, end at once, whatever is being computed."""
    for line in iter(sys.stdin.readline, ""):
        requests.put(line)
    os._exit(0)


def _find(target: str, folder: str | None) -> Any:
    """Return the factory; `folder` joins the path, at its end, only where it holds the module that is asked for.

    So nothing in it can take the place of an installed module, and nothing is found in it that nobody named.
    """
    module, _, name = target.rpartition(":")
    if module.endswith(".py"):
        spec = importlib.util.spec_from_file_location("factory", module)
        assert spec is not None and spec.loader is not None  # noqa: PT018
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return getattr(loaded, name)
    if folder is not None and importlib.util.find_spec(module.partition(".")[0]) is None:
        sys.path.append(folder)
    return getattr(importlib.import_module(module), name)


def _make(factory: Any, kwargs: dict[str, Any]) -> Any:
    made = factory(**kwargs)
    if not (hasattr(made, "get_potential_energy") or hasattr(made, "compute")):
        raise TypeError(f"it returned {type(made).__name__}, not an ASE calculator")
    return made


def _versions(target: str) -> dict[str, str]:
    """Return the versions that decide what the labels are."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in ("ase", target.rpartition(":")[0].partition(".")[0]):
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            found[name] = version
    return found


def _structure(frame: dict[str, Any]) -> Any:
    from ase import Atoms

    return Atoms(
        frame["numbers"], positions=frame["positions"], cell=frame["cell"], pbc=frame["pbc"], info=frame["info"]
    )


def _label(calculator: Any, frames: list[Any], stress: bool) -> list[dict[str, Any]]:
    """Return a label or an error for each frame; all in one call where the calculator has `compute`."""
    if not hasattr(calculator, "compute"):
        return [_one(calculator, atoms, stress) for atoms in frames]
    try:
        said = calculator.compute(frames, stress=stress)
        return [
            _plain(p.energy_eV, p.forces_eV_per_A, p.stress_eV_per_A3, getattr(p, "energies_eV", None)) for p in said
        ]
    except Exception as error:  # noqa: BLE001 - whatever it raises must reach the other side
        if len(frames) == 1:
            return [{"error": _in_words(error)}]
        return [answer for atoms in frames for answer in _label(calculator, [atoms], stress)]


def _one(calculator: Any, atoms: Any, stress: bool) -> dict[str, Any]:
    try:
        if hasattr(calculator, "reset"):
            calculator.reset()  # the frame before must not move the last digits
        atoms.calc = calculator
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        tensor = atoms.get_stress(voigt=False) if stress else None
        return _plain(energy, forces, tensor, getattr(calculator, "results", {}).get("energies"))
    except Exception as error:  # noqa: BLE001 - whatever it raises must reach the other side
        traceback.print_exc()
        return {"error": _in_words(error)}


def _plain(energy: Any, forces: Any, stress: Any, energies: Any) -> dict[str, Any]:
    return {
        "energy": float(energy),
        "forces": [[float(x) for x in row] for row in forces],
        "stress": None if stress is None else [[float(x) for x in row] for row in stress],
        "energies": None if energies is None else [float(x) for x in energies],
    }


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _say(answers: Any, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
