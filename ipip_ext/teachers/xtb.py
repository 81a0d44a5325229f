"""GFN-xTB by tblite, also for slabs, wires and ions. The only importer of tblite.

tblite repeats in three directions whatever is periodic at all. So along open ones it gets a box with vacuum of ours,
wherever the structure stands and whatever cell vector it has there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from tblite.ase import TBLite

from ipip_ext.errors import StageFailed
from ipip_ext.potentials.cells import boxed, per_cell
from ipip_ext.potentials.charge import CHARGE_KEYS, SPIN_KEYS, charge_of, same_state, spin_of
from ipip_ext.potentials.faults import fault_of, stress_fault

_VACUUM_A = 30.0
"""Along open directions of what is periodic in others."""


class XtbCalculator(TBLite):  # type: ignore[misc]
    """tblite's calculator, which takes charge and spin multiplicity from `atoms.info`.

    Where these say nothing, initial charges and magnetic moments count, as in tblite itself.
    """

    atoms: Atoms | None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`; stress only where there is one. Raises StageFailed, which names the atom, for NaN."""
        given: Atoms = self.atoms if atoms is None else atoms
        if (why := fault_of(given)) is not None:
            raise StageFailed(f"xtb: {why}")
        room = _charged(boxed(given, _VACUUM_A) if given.pbc.any() else given)
        super().calculate(room, properties, list(system_changes))
        self.atoms = given.copy()
        tensor = self.results.pop("stress", None)
        if tensor is not None and stress_fault(given) is None:
            tensor = per_cell(voigt_6_to_full_3x3_stress(tensor), given, room)
            self.results["stress"] = full_3x3_to_voigt_6_stress(tensor)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation, charge and spin in `info` too."""
        changes: list[str] = super().check_state(atoms, tol=tol)
        return changes or ([] if same_state(atoms, self.atoms) else ["info"])


def _charged(atoms: Atoms) -> Atoms:
    """Return the atoms with what `info` says of charge and spin, where tblite looks for it."""
    told: dict[str, Any] = {}
    if any(key in atoms.info for key in CHARGE_KEYS):
        told["initial_charges"] = charge_of(atoms)
    if any(key in atoms.info for key in SPIN_KEYS):
        told["initial_magmoms"] = spin_of(atoms) - 1  # unpaired electrons
    if not told:
        return atoms
    copy = atoms.copy()
    for name, total in told.items():
        copy.set_array(name, None)
        copy.set_array(name, [total] + [0.0] * (len(copy) - 1), float, ())
    return copy
