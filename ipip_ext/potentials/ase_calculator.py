"""Any of our potentials as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ipip_ext.errors import StageFailed
from ipip_ext.potentials.base import FrameFailed, Prediction
from ipip_ext.potentials.charge import same_state
from ipip_ext.potentials.faults import stress_fault


class PotentialCalculator(Calculator):  # type: ignore[misc]
    """ASE calculator around a Potential, for MD, optimisers and everything else in ASE.

    Stress costs extra, so it is computed only when asked for. `energies` are there where the potential has them.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - ASE's convention

    def __init__(self, potential: Any) -> None:
        super().__init__()
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces"),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`.

        Raises PropertyNotImplementedError for the stress of what is periodic in fewer than two directions, and
        StageFailed, which names the atom, for positions that are not finite.
        """
        super().calculate(atoms, properties, system_changes)
        stress = "stress" in properties
        if stress and (why := stress_fault(self.atoms)) is not None:
            raise PropertyNotImplementedError(why)
        try:
            done, more = self.label(self.atoms, stress)
        except FrameFailed as error:
            raise StageFailed(f"{self.potential.name}: {error.message}") from error
        self.results = {
            "energy": done.energy_eV,
            "free_energy": done.energy_eV,
            "forces": done.forces_eV_per_A,
            **more,
        }
        if done.energies_eV is not None:
            self.results["energies"] = done.energies_eV
        if done.stress_eV_per_A3 is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(done.stress_eV_per_A3)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation; for ASE alone charge and spin in `info` are nothing."""
        changes: list[str] = super().check_state(atoms, tol=tol)
        return changes or ([] if same_state(atoms, self.atoms) else ["info"])

    def label(self, atoms: Atoms, stress: bool) -> tuple[Prediction, dict[str, Any]]:
        """Return the potential's labels, and whatever else belongs in `results`."""
        return self.potential.compute([atoms], stress=stress)[0], {}
