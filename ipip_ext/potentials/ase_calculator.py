"""Any of our potentials as an ASE calculator."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ipip_ext.errors import StageFailed
from ipip_ext.potentials.base import Array, FrameFailed, Prediction
from ipip_ext.potentials.charge import same_state
from ipip_ext.potentials.faults import stress_fault
from ipip_ext.potentials.home import EDGE, has_home, told

log = logging.getLogger("ipip_ext.home")

_AT_HOME = ("home_distance", "home_distances")


class PotentialCalculator(Calculator):  # type: ignore[misc]
    """ASE calculator around a Potential, for MD, optimisers and everything else in ASE.

    Stress costs extra, so it is computed only when asked for. `energies` are there where the potential has them; and
    `home_distances` (n_atoms,) and `home_distance`, their largest, where it knows its home (`potentials.home`): above 1
    it is asked about what it has not learnt, of which the first time is logged as a warning.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - ASE's convention

    def __init__(self, potential: Any) -> None:
        super().__init__()
        self.potential = potential
        self.warns = True
        if has_home(potential):
            self.implemented_properties = [*self.implemented_properties, *_AT_HOME]

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
        if done.home_distances is not None:
            self._tell_home(done.home_distances)
        if done.stress_eV_per_A3 is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(done.stress_eV_per_A3)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation; for ASE alone charge and spin in `info` are nothing."""
        changes: list[str] = super().check_state(atoms, tol=tol)
        return changes or ([] if same_state(atoms, self.atoms) else ["info"])

    def _tell_home(self, distances: Array) -> None:
        self.results |= {"home_distance": float(distances.max(initial=0.0)), "home_distances": distances}
        if self.warns and self.results["home_distance"] > EDGE:
            self.warns = False
            log.warning(
                "%s: %s, and above %g it has learnt nothing like it; said once, see results['home_distance'].",
                self.potential.name, told(self.atoms, distances), EDGE,
            )  # fmt: skip

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return a property, as ASE does. Raises PropertyNotImplementedError, also where it can't tell its home."""
        if name in _AT_HOME and name not in self.implemented_properties:
            raise PropertyNotImplementedError(
                f"{self.potential.name}: can't tell where it is at home; a student can whose folder holds"
                " home.safetensors, which `ipip-mace run` writes (for an older run: with --redo model)."
            )
        return super().get_property(name, atoms, allow_calculation)

    def label(self, atoms: Atoms, stress: bool) -> tuple[Prediction, dict[str, Any]]:
        """Return the potential's labels, and whatever else belongs in `results`."""
        return self.potential.compute([atoms], stress=stress)[0], {}
