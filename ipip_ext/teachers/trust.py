"""What of a recipe can run code, and whether it is the user's own recipe that asks for it.

A pickled model, a Python factory, another interpreter and a LAMMPS input all run what they hold. A recipe of one's own
may name any of them; a recipe that someone else wrote may only with `--trust-models`. Whose it is, is told by who owns
the file and its folder, where modules are looked for: that is all a file system knows. `docs/security.md` says what
this rule can't see.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipip_ext.errors import CalculatorError, ModelFileError, RecipeError
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run.provenance import sha256
from ipip_ext.teachers import entries


@dataclass(frozen=True)
class Finding:
    """One thing in a recipe that can run code. where: its key. file, sha256: of a pickled model."""

    where: str
    what: str
    file: Path | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" (SHA-256 {self.sha256})" if self.sha256 else "")


def require(recipe: Recipe, *, trusted: bool) -> list[Finding]:
    """Return what of a recipe can run code. Raises RecipeError if it is another's recipe and not `trusted`."""
    found = findings(recipe)
    if found and not trusted and (why := _foreign(Path(recipe.file)) or _foreign(recipe.folder)):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise RecipeError(
            f"{recipe.file}: {why}, and it can run code: {found[0]}{more};"
            " read what it names, then run it with --trust-models."
        )
    return found


def require_entry(entry: str | Mapping[str, Any], *, trusted: bool) -> list[Finding]:
    """Return the pickled models of an entry that the user wrote on the command line.

    Raises ModelFileError if one is another's file and not `trusted`.
    """
    found = [finding for finding in _of_entry("model", entry, Path()) if finding.file is not None]
    for finding in found:
        if not trusted and finding.file is not None and (why := _foreign(finding.file)):
            raise ModelFileError(
                f"{finding.file}: {why}, and it runs code when it is loaded (SHA-256 {finding.sha256});"
                " if you know where it is from, say --trust-models."
            )
    return found


def findings(recipe: Recipe) -> list[Finding]:
    """Return all that can run code or send data away when this recipe is run."""
    named: dict[str, str | Mapping[str, Any]] = {"teacher": recipe.teacher}
    if recipe.label.reference is not None:
        named["label.reference.calculator"] = recipe.label.reference.calculator
    for index, baseline in enumerate(recipe.baselines):
        if (entry := getattr(baseline, "calculator", None)) is not None:
            named[f"baselines.{index}.calculator"] = entry
    found = [finding for where, entry in named.items() for finding in _of_entry(where, entry, recipe.folder)]
    if recipe.compute.parsl is not None:
        found.append(Finding("compute.parsl", f"runs the shell lines of {recipe.compute.parsl}"))
    uri = recipe.tracking.uri
    if recipe.tracking.enabled and not _is_local(uri):
        found.append(Finding("tracking.uri", f"writes to {uri}"))
    return found


def _of_entry(where: str, entry: str | Mapping[str, Any], root: Path) -> Iterator[Finding]:
    try:
        parsed = entries.parse(entry)
    except CalculatorError:  # can't be made either, as preflight will say
        return
    file = root / parsed.target
    if parsed.kind in ("mace", "chgnet") and file.is_file():
        yield Finding(where, f"unpickles {file}", file, sha256(file))
    elif parsed.kind == "python":
        place = f" in {parsed.interpreter}" if parsed.interpreter is not None else ""
        yield Finding(where, f"runs {parsed.target}{place}")
    elif parsed.kind == "lammps":  # its pair_style python runs modules
        yield Finding(where, f"runs LAMMPS with pair_style {parsed.target}")


def _is_local(uri: str) -> bool:
    """Return whether a store lies in the working directory, or below it."""
    file = uri.removeprefix("sqlite:///").partition("?")[0]
    return file != uri and not Path(file).is_absolute() and ".." not in Path(file).parts


def _foreign(path: Path) -> str | None:
    """Return why `path` may hold what another user wrote, None if it is one's own."""
    try:
        found = path.stat()
    except OSError:
        return None  # nothing is read from it
    if found.st_uid != os.geteuid():
        return f"{path} belongs to {_name(found.st_uid)}"
    if found.st_mode & stat.S_IWOTH:
        return f"{path} may be written by every user"
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
