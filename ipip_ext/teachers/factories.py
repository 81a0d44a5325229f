"""`python: module:factory`: whatever the code that a recipe names returns, as a Potential.

A module is looked for among the installed ones, then beside the recipe.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ipip_ext.errors import CalculatorError, IpipError, did_you_mean
from ipip_ext.potentials.base import Potential
from ipip_ext.teachers.ase_potential import AsePotential


def check(target: str, root: Path | None) -> None:
    """Import the factory `target`, `module:factory`, and build nothing.

    root: the recipe's folder, where modules are looked for too. Raises CalculatorError if there is no such factory.
    """
    with _importable(target, root):
        _factory(target, root)


def build(target: str, kwargs: Mapping[str, Any], name: str, root: Path | None) -> Potential:
    """Return what the factory makes of `kwargs`: itself if it is a Potential, an ASE calculator as one.

    Raises CalculatorError as `check` does, with the factory's own words if it fails, and if it makes something else.
    """
    with _importable(target, root):
        try:
            made = _factory(target, root)(**kwargs)
        except IpipError:
            raise
        except Exception as error:
            raise CalculatorError(
                f"python: {target}({_shown(kwargs)}) failed: {type(error).__name__}: {error}"
            ) from error
    if isinstance(made, Potential):
        return made
    if not hasattr(made, "get_potential_energy"):
        raise CalculatorError(f"python: {target} returned {type(made).__name__}; it must return an ASE calculator.")
    return AsePotential(made, name)


def _factory(target: str, root: Path | None) -> Any:
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise CalculatorError(f"python: {target}: must read module:factory, such as ase.calculators.emt:EMT.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        where = f"{root} or among the installed packages" if root else "the installed packages"
        raise CalculatorError(f"python: {target}: no module named {error.name} in {where}.") from None
    except Exception as error:
        raise CalculatorError(
            f"python: {target}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    if not callable(getattr(module, attribute, None)):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        where = f" ({module.__file__})" if getattr(module, "__file__", None) else ""
        raise CalculatorError(
            f"python: {module_name}{where} has no factory {attribute}.{did_you_mean(attribute, known)}"
        )
    return getattr(module, attribute)


def _shown(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in kwargs.items())


@contextlib.contextmanager
def _importable(target: str, root: Path | None) -> Iterator[None]:
    """Let a factory's module be found in the recipe's folder if none of its name is installed, and its neighbours then.

    The folder joins the path at its end: nothing in it can take the place of an installed module. Where the recipe
    names an installed one, the folder is not on the path at all.
    """
    folder = str((root or Path()).resolve())
    if folder in sys.path or not _is_beside(target, folder):
        yield
        return
    sys.path.append(folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _is_beside(target: str, folder: str) -> bool:
    """Return whether a factory's module is one of `folder`'s, or nowhere to be found; nothing is imported."""
    try:
        found = importlib.util.find_spec(target.partition(":")[0].partition(".")[0])
    except ValueError:  # no name, or a main module: there is nothing to look for
        return False
    places = [] if found is None else [found.origin, *(found.submodule_search_locations or ())]
    return found is None or any(Path(place).parent == Path(folder) for place in places if place)
