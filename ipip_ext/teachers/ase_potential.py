"""Any ASE calculator as a Potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms

from ipip_ext.potentials.base import FrameFailed, Prediction, shares
from ipip_ext.potentials.cells import of_plane, volume
from ipip_ext.potentials.faults import fault_of, stress_fault


class AsePotential:
    """Any ASE calculator, one frame after the other."""

    batched = False

    def __init__(self, calculator: Any, name: str, n_parameters: int | None = None) -> None:
        self._calculator = calculator
        self.name = name
        self.n_parameters = n_parameters

    def compute(self, frames: Sequence[Atoms], *, stress: bool = False) -> list[Prediction]:
        """Return one `Prediction` a frame. Raises FrameFailed with the calculator's own words."""
        return [self._one(index, atoms, stress) for index, atoms in enumerate(frames)]

    def compute_separately(self, frames: Sequence[Atoms]) -> list[Prediction | FrameFailed]:
        """Return a `Prediction` a frame, or why there is none."""
        answers: list[Prediction | FrameFailed] = []
        for index, atoms in enumerate(frames):
            try:
                answers += self.compute([atoms])
            except FrameFailed as error:
                answers.append(FrameFailed(index, error.message))
        return answers

    def calculator(self) -> Any:
        """Return the ASE calculator itself."""
        return self._calculator

    def _one(self, index: int, atoms: Atoms, stress: bool) -> Prediction:
        if (why := fault_of(atoms) or (stress_fault(atoms) if stress else None)) is not None:
            raise FrameFailed(index, f"{self.name}: {why}")
        copy = atoms.copy()
        if not atoms.pbc.all() and volume(atoms) == 0:
            copy.cell[~atoms.pbc] = 0  # an open vector may lie in the plane of the others, which few codes forgive
        if hasattr(self._calculator, "reset"):
            # neighbour lists and wave functions of the frame before would move the last digits,
            # and a resumed run would no longer be the run that was killed
            self._calculator.reset()
        copy.calc = self._calculator
        try:
            energy = float(copy.get_potential_energy())
            forces = copy.get_forces(apply_constraint=False)
            tensor = copy.get_stress(voigt=False, apply_constraint=False) if stress else None
        except Exception as error:
            raise FrameFailed(index, f"{self.name}: {type(error).__name__}: {error}") from error
        energies = shares(getattr(self._calculator, "results", {}).get("energies"), energy, len(atoms))
        return Prediction(energy, forces.astype(float), None if tensor is None else of_plane(tensor, atoms), energies)
