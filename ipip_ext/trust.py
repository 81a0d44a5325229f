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

from ipip_ext import calculators
from ipip_ext.errors import CalculatorError, ModelFileError, RecipeError
from ipip_ext.provenance import sha256
from ipip_ext.recipe import Recipe

KNOWN_SHA256 = {
    "2023-12-10-mace-128-L0_energy_epoch-249.model": "2ddb079cee0e131eaaf6912ba581b394551ead283e95c99cfe78c605d10b5736",
    "2023-12-03-mace-128-L1_epoch-199.model": "01bfe22100139f424713cf921144e5509cbe353d67aa9fa1be9c6e1e0ed35845",
    "MACE_MPtrj_2022.9.model": "f80e992b65ab8f88fdf26964511357c022e92704e4d9bcd086652635a8495b32",
    "mace-mp-0b3-medium.model": "2f2be696351ac9e94fbe01cdfb6f017679acdbd2db7645209ef55fec9826b012",
    "mace-mpa-0-medium.model": "75428afe3a1d7d8062e19bcaabd5c433623cabf308242ec9fb493e38604fb638",
    "mace-omat-0-small.model": "0abfde07862cf1e93b8b4d03cb702f29ce9c344ff2fc4de2ec0d7166d6c113a5",
    "mace-omat-0-medium.model": "d4b14be9afa294eebdbe31a0280b26a0fa29715771e978cbfd3ca24e0d90307a",
    "MACE-matpes-pbe-omat-ft.model": "e618ad582b84239905b9c3b77ce6e9ce111b0ecd1533223a1a6aac7a696b8aa0",
    "MACE-matpes-r2scan-omat-ft.model": "8f147ecffa1d06a696e5648b13b81abda9c96fda9d0fb3faba3cd3fb27d9bba9",
    "MACE-OFF23_small.model": "165cce4cfec5a34b9c64d4ebf95de15d71106bb584b7291c8470f0749977c46f",
    "MACE-OFF23_medium.model": "4842c52ad210d6e1f84d6cf1ffa70fae25a7e0d755ed55cf223f43913f587db7",
    "MACE-OFF23_large.model": "a29e397dbf3e7a24ac50a9b0dfc919bd5a62efa346f5895a6237b0950c1d76f4",
}
"""SHA-256 of foundation models as their authors released them, by the file names of the releases.

MACE publishes none; each of these stands in at least two public repositories of independent groups who computed it.
"""


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
    entries: dict[str, Any] = {"teacher": recipe.teacher}
    if recipe.label.reference is not None:
        entries["label.reference.calculator"] = recipe.label.reference.calculator
    for index, baseline in enumerate(recipe.baselines):
        if (entry := getattr(baseline, "calculator", None)) is not None:
            entries[f"baselines.{index}.calculator"] = entry
    found = [finding for where, entry in entries.items() for finding in _of_entry(where, entry, recipe.folder)]
    uri = recipe.tracking.uri
    if recipe.tracking.enabled and not _is_local(uri):
        found.append(Finding("tracking.uri", f"writes to {uri}"))
    return found


def verify_foundation(released_as: str, path: Path) -> None:
    """Raise ModelFileError if a downloaded foundation model is not the one that was released under this name."""
    known = KNOWN_SHA256.get(released_as)
    if known is not None and (found := sha256(path)) != known:
        raise ModelFileError(
            f"{path}: is not the {released_as} that was released: its SHA-256 is {found}, not {known}."
            " Delete it, so that it is downloaded again; if you mean this file, name it by its path."
        )


def _of_entry(where: str, entry: str | Mapping[str, Any], root: Path) -> Iterator[Finding]:
    try:
        parsed = calculators.parse(entry)
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
