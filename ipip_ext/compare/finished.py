"""Finished runs as they are compared with each other: their tables, and what of their recipes decides results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipip_ext.compare.ablate_report import PLAN
from ipip_ext.errors import WorkspaceError
from ipip_ext.recipe.file import read_own
from ipip_ext.run.layout import RECIPE, TABLE, TEXT, require_run
from ipip_ext.run.plain import flatten
from ipip_ext.run.record import read_record
from ipip_ext.stages.report import read_rows
from ipip_ext.stages.report_tables import Row, cells

_GIVEN = {
    "data.train": "train", "data.test": "test", "data.valid": "valid", "data.isolated_atoms": "isolated_atoms",
    "explore.starts": "starts",
}  # fmt: skip
"""Keys that name files, which count by content, and what `prepare` calls those files."""

_PLACES = ("starts", "trajectory", "strained")
"""Last names of other keys that name files, which are told by their own name: their folders differ by machine."""

_NO_MATTER = ("tracking.", "compute.", "parallel")
"""Beginnings of keys that change no result."""


@dataclass(frozen=True)
class Run:
    """A finished run. name: short, unlike the others'. recipe: flat, files by hash.

    record: of its `prepare`. text: its own table.
    """

    name: str
    rows: list[Row]
    recipe: Mapping[str, Any]
    record: Mapping[str, Any]
    text: str

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return int(self.recipe["seed"])

    @property
    def test(self) -> tuple[Any, ...]:
        """Return the hash of the test file, and the keys under which its labels are read."""
        keys = [key for key in self.recipe if key.startswith("data.") and key.endswith("_key")]
        # a key that the run's version did not have is as one that is not set
        return self.recipe["data.test"], *((key, self.recipe[key]) for key in sorted(keys) if self.recipe[key])

    @property
    def choices(self) -> dict[str, Any]:
        """The recipe without what names a run, its seed, and what changes no result."""
        return {k: v for k, v in self.recipe.items() if k not in ("name", "seed") and not k.startswith(_NO_MATTER)}

    def n_labels(self, row: Row) -> float | None:
        """Return how many reference labels a model has seen; None for one that came as it is."""
        if "n_reference_labels" in row:
            return None if row["n_reference_labels"] is None else float(row["n_reference_labels"])
        known = row["role"] == "ipip" or row["model"] in ("scratch", "no_forget")  # of before it was counted
        return float(sum(self.record["values"][key] for key in ("n_train", "n_valid"))) if known else None


def read(folders: Sequence[Path]) -> list[Run]:
    """Return the finished runs in `folders`, those of a grid one by one, each once.

    Raises WorkspaceError for a folder that holds no finished run or a broken one.
    """
    wanted = {run.resolve(): run for folder in folders for run in _expanded(folder)}
    return [_read(name, folder) for name, folder in zip(_names(list(wanted)), wanted.values(), strict=True)]


def _hashes(given: Any) -> str:
    """Return the hash of a file as a record holds it, or of named sets of frames each name and hash."""
    if not isinstance(given, Mapping):
        return str(given)
    return ", ".join(f"{name} {str(sha256).removeprefix('sha256:')[:16]}" for name, sha256 in given.items())


def _is_place(key: str, value: Any) -> bool:
    return isinstance(value, str) and key not in _GIVEN and key.rsplit(".", 1)[-1] in _PLACES


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the ends of paths, as short as tells them apart."""
    for depth in range(1, max(len(folder.parts) for folder in folders)):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [folder.as_posix() for folder in folders]


def _expanded(folder: Path) -> list[Path]:
    if not (folder / PLAN).is_file():
        return [folder]
    runs = sorted(path.parent for path in folder.glob(f"*/seed-*/{TABLE}"))
    if not runs:
        raise WorkspaceError(f"{folder}: none of its runs is finished; `ipip-mace ablate` goes on with them.")
    return runs


def _read(name: str, folder: Path) -> Run:
    require_run(folder)
    if not all((folder / name).is_file() for name in (TABLE, TEXT)):
        raise WorkspaceError(f"{folder}: has no comparison yet; `ipip-mace status {folder}` tells where it stands.")
    record = read_record(folder / "prepare", "prepare")
    given = record["fingerprint"]["inputs"]
    try:
        recipe = flatten(read_own((folder / RECIPE).read_text(encoding="utf-8")))
        recipe = {key: value for key, value in recipe.items() if not key.startswith("data.test.")}
        recipe |= {key: _hashes(given[file]) for key, file in _GIVEN.items() if given.get(file) is not None}
        recipe |= {key: Path(value).name for key, value in recipe.items() if _is_place(key, value)}
        run = Run(name, read_rows(folder / TABLE), recipe, record, (folder / TEXT).read_text(encoding="utf-8"))
        _ = run.seed, run.test, cells(run.rows)
        if not run.rows:
            raise ValueError("no rows")
    except (AttributeError, LookupError, ValueError, TypeError) as error:
        raise WorkspaceError(
            f"{folder}: {RECIPE} or {TABLE} is corrupt ({type(error).__name__}: {error}); put them back."
        ) from None
    return run
