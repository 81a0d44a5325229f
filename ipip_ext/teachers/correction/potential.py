"""A teacher whose labels are corrected, as one Potential."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from ipip_ext.potentials.ase_calculator import PotentialCalculator
from ipip_ext.potentials.base import FrameFailed, Potential, Prediction
from ipip_ext.potentials.compute import compute_each
from ipip_ext.teachers.correction.fitted import TeacherCorrection


class CorrectedPotential:
    """A teacher with corrected labels, as a Potential."""

    def __init__(self, teacher: Potential, correction: TeacherCorrection) -> None:
        self.teacher = teacher
        self.correction = correction
        self.name = teacher.name + correction.suffix
        self.n_parameters = teacher.n_parameters
        self.batched = teacher.batched

    def compute(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Prediction]:  # noqa: ARG002
        """Return corrected energies and forces, and no stress. Raises FrameFailed as the teacher does."""
        return self.correction.apply(frames, self.teacher.compute(frames))

    def compute_separately(self, frames: Sequence[Atoms]) -> list[Prediction | FrameFailed]:
        """Return corrected labels, or why there are none, for each frame."""
        told, why = compute_each(self.teacher, frames)
        good = [index for index in range(len(frames)) if index not in why]
        labels = self.correction.apply([frames[i] for i in good], [told[i] for i in good]) if good else []
        corrected = dict(zip(good, labels, strict=True))
        return [FrameFailed(i, why[i]) if i in why else corrected[i] for i in range(len(frames))]

    def calculator(self) -> PotentialCalculator:
        """Return an ASE calculator around this potential."""
        return PotentialCalculator(self)
