"""MD with a finished model: structures in, a folder with trajectory, log and summary out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import ase.io
from ase import Atoms

from ipip_ext.api.models import Named, load_named, named, structures
from ipip_ext.api.options import MDOptions, checked
from ipip_ext.api.options import settings as settings_of
from ipip_ext.report.html import parts
from ipip_ext.run import signals, state
from ipip_ext.run.bar import shown
from ipip_ext.run.events import Sink
from ipip_ext.simulate import folder as folders
from ipip_ext.simulate import plan, walk
from ipip_ext.simulate.files import LOG, TRAJECTORY
from ipip_ext.simulate.summary import table


def simulate(
    model: Named, structure: str | Path | Atoms | Sequence[Atoms], folder: str | Path | None = None, *,
    progress: bool | Sink = True, trust_models: bool = False, **options: Unpack[MDOptions],
) -> Simulation:  # fmt: skip
    """Run MD of structures, or go on where it stands in `folder`; return what it came to.

    model: a run or student folder, a MACE .model file, or a calculator entry; see `Named`.
    structure: ASE structures, a file, or `file@index`; each walks at each temperature. Velocities are drawn anew.
    folder: of the results; None: `md/<name of the file>`, or `md/<formula of the first structure>`.
    progress: True for one line, False for silence, or a function to be given every `Event`.
    trust_models: let another user's file load a pickled model. options: see `MDOptions`.
    The same call goes on after a stop or a kill, and returns at once what is finished.
    Raises UserError for what can't be done, before anything is written; StageFailed if no frame was kept.
    """
    asked = checked(options)
    settings = settings_of(structure if isinstance(structure, str) else "structures", asked)
    starts = _starts(structure, asked["supercell"])
    planned = plan.plan(named(model), starts, settings, asked["seed"], asked["on_unknown"])
    found = Simulation(_folder(structure, starts) if folder is None else Path(folder))
    if folders.finished(planned, found.folder) is not None:
        return found
    with state.kept(), signals.stoppable(), shown(progress, found.folder.name) as show:
        import torch

        torch.set_num_threads(asked["threads"])
        potential = load_named(model, asked["device"], trusted=trust_models)
        walk.run(planned, potential, found.folder, show=show)
    return found


def _starts(structure: str | Path | Atoms | Sequence[Atoms], supercell: tuple[int, int, int]) -> list[Atoms]:
    if isinstance(structure, str | Path):
        return plan.read_starts(str(structure), supercell)
    return plan.repeated(structures(structure), supercell, "structures")


def _folder(structure: str | Path | Atoms | Sequence[Atoms], starts: Sequence[Atoms]) -> Path:
    if isinstance(structure, str | Path):
        return Path("md") / Path(str(structure).partition("@")[0]).stem
    return Path("md") / str(starts[0].get_chemical_formula())


@dataclass(frozen=True)
class Simulation:
    """Finished MD. folder: of its files."""

    folder: Path

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Means with standard errors, drift, stops and speed, as summary.json holds them."""
        found: dict[str, Any] = json.loads((self.folder / folders.SUMMARY).read_text(encoding="utf-8"))
        return found

    @property
    def trajectory(self) -> Path:
        """All frames with energies and forces, as extended XYZ."""
        return self.folder / TRAJECTORY

    @property
    def log(self) -> Path:
        """Step, time, energies, temperature and more, a line a frame, as CSV."""
        return self.folder / LOG

    def frames(self) -> list[Atoms]:
        """Return all frames with energies and forces as ASE keeps them; `info` says whose walk they are of."""
        return list(ase.io.read(self.trajectory, index=":", format="extxyz"))

    def __str__(self) -> str:
        return table(self.summary)

    def _repr_html_(self) -> str:
        return parts.join(parts.preformatted(str(self)), parts.paragraph(f"{self.folder}"))
