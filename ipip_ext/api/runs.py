"""A run folder, opened: what a run has left, read when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipip_ext.check import status
from ipip_ext.errors import WorkspaceError, did_you_mean
from ipip_ext.measure import timing
from ipip_ext.recipe.file import load_recipe
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.report.html import parts
from ipip_ext.run import layout
from ipip_ext.run.record import read_record

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from ipip_ext.check.verify import Claim
    from ipip_ext.potentials.base import Potential
    from ipip_ext.stages.report_tables import Row

_FRAMES = ".extxyz"


def open_run(folder: str | Path) -> Run:
    """Return the run in `folder`, finished or not. Raises WorkspaceError if there is none."""
    layout.require_run(Path(folder))
    return Run(Path(folder))


@dataclass(frozen=True)
class Run:
    """A run folder. What is not there yet raises WorkspaceError or ModelFileError, which say so.

    Numpy, models and MLflow take their time to import, so each is imported where it is needed: `status` is quick.
    """

    folder: Path

    @property
    def recipe(self) -> Recipe:
        """The recipe as it ran, every key written out."""
        return load_recipe(self.folder / layout.RECIPE)

    @property
    def is_finished(self) -> bool:
        """Whether its comparison stands."""
        return (self.folder / layout.TABLE).is_file()

    @property
    def model(self) -> Path:
        """Folder of the student: `student.model` for MACE, `student.json` and `student.safetensors` for us."""
        from ipip_ext.teachers.load import model_folder

        return model_folder(self.folder)

    @property
    def report(self) -> Path:
        """The comparison as a page, `report.html`."""
        return self._finished(layout.PAGE)

    @property
    def text(self) -> str:
        """The comparison as text."""
        return self._finished(layout.TEXT).read_text(encoding="utf-8")

    @property
    def where_to_compare(self) -> str | None:
        """A line that says how to look at it beside other runs in MLflow; None if it is not mirrored there."""
        from ipip_ext.tracking import mirror

        tracking = self.recipe.tracking
        return mirror.run_url_hint(tracking) if tracking.enabled else None

    def rows(self) -> list[Row]:
        """Return compare.csv: a dict for each model and split, with numbers as numbers and None where there is none."""
        from ipip_ext.stages.report import read_rows

        return read_rows(self._finished(layout.TABLE))

    def table(self) -> Any:
        """Return `rows` as a pandas.DataFrame, or as they are where pandas is not installed."""
        from ipip_ext.api.tables import as_table

        return as_table(self.rows())

    def status(self) -> status.Status:
        """Return which stages are done and under way, and where the time went. Printed, it is `ipip-mace status`."""
        return status.status(self.folder)

    def calculator(self, device: str = "cpu", *, committee: bool = False) -> Calculator:
        """Return the student as an ASE calculator, or the committee around it; see `load_calculator`."""
        from ipip_ext.teachers.load import load_calculator

        return load_calculator(self.model, device, committee=committee)

    def potential(self, device: str = "cpu") -> Potential:
        """Return the student as a batched Potential: `compute(frames)` gives energies and forces of many at once."""
        from ipip_ext.teachers.load import load_potential

        return load_potential(self.model, device)

    def frames(self, stage: str, output: str | None = None) -> list[Atoms]:
        """Return the frames that a stage has left, labelled as REF_* where they have labels.

        stage: its folder, as `status` names it, such as `explore` or `iter-00/label`. output: which of its files, where
        it has several: `prepare` has train, valid, test and starts.
        Raises WorkspaceError, naming what there is, for a stage or output that is not there.
        """
        from ipip_ext.data.frames import read_frames

        known = [path.relative_to(self.folder).as_posix() for path in timing.finished(self.folder)]
        if stage not in known:
            raise WorkspaceError(f"{self.folder}: has no finished stage {stage}.{did_you_mean(stage, known)}")
        outputs = read_record(self.folder / stage, stage)["outputs"]
        files = {name: entry["file"] for name, entry in outputs.items() if entry["file"].endswith(_FRAMES)}
        if not files:
            raise WorkspaceError(f"{self.folder / stage}: leaves no frames; stages such as explore and label do.")
        if output is None and len(files) > 1:
            raise WorkspaceError(f"{self.folder / stage}: leaves several: name one of {', '.join(files)} as output.")
        chosen = next(iter(files)) if output is None else output
        if chosen not in files:
            raise WorkspaceError(f"{self.folder / stage}: leaves no frames {chosen}.{did_you_mean(chosen, files)}")
        return read_frames(self.folder / stage / files[chosen])

    def verify(self) -> list[Claim]:
        """Return every claim of the finished run, checked: files are whole, the table is what model and data give."""
        from ipip_ext.check.verify import verify

        return verify(self.folder)

    def __str__(self) -> str:
        """Return the comparison, or where the run stands while there is none."""
        return self.text if self.is_finished else str(self.status())

    def _repr_html_(self) -> str:
        from ipip_ext.stages.report_tables import cells

        head = parts.element("p", parts.element("b", parts.text(self.folder)))
        if not self.is_finished:
            return parts.join(head, parts.Html(self.status()._repr_html_()))
        return parts.join(head, parts.table(cells(self.rows())))

    def _finished(self, name: str) -> Path:
        layout.require_run(self.folder)
        if not (self.folder / name).is_file():
            raise WorkspaceError(
                f"{self.folder}: has no comparison yet; `ipip-mace status {self.folder}` tells where it stands."
            )
        return self.folder / name
