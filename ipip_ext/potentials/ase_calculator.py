"""Any of our potentials as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ipip_ext.potentials.base import Prediction


class PotentialCalculator(Calculator):  # type: ignore[misc]
    """ASE calculator around a Potential, for MD, optimisers and everything else in ASE.

    Stress costs extra, so it is computed only when asked for.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - ASE's convention

    def __init__(self, potential: Any) -> None:
        super().__init__()
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces"),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`; raises PropertyNotImplementedError for the stress of a cell that is not periodic."""
        super().calculate(atoms, properties, system_changes)
        stress = "stress" in properties
        if stress and not self.atoms.pbc.all():
            raise PropertyNotImplementedError("stress needs pbc in all three directions")
        done, more = self.label(self.atoms, stress)
        self.results = {
            "energy": done.energy_eV,
            "free_energy": done.energy_eV,
            "forces": done.forces_eV_per_A,
            **more,
        }
        if done.stress_eV_per_A3 is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(done.stress_eV_per_A3)

    def label(self, atoms: Atoms, stress: bool) -> tuple[Prediction, dict[str, Any]]:
        """Return the potential's labels, and whatever else belongs in `results`."""
        return self.potential.compute([atoms], stress=stress)[0], {}
