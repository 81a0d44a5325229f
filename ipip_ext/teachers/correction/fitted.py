"""A fitted correction: what it is made of, what it makes of a teacher's labels, and the file that keeps it.

Universal potentials are too soft (Deng et al., npj Comput. Mater. 11, 9 (2025)), and learning the difference
between two methods needs far fewer labels than learning the better method itself (Ramakrishnan et al., J. Chem.
Theory Comput. 11, 2087 (2015)). Every form is linear in its coefficients, and with all of them zero the teacher
stays as it comes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.potentials.base import Array, Prediction
from ipip_ext.teachers.correction.columns import Columns, angular, pair

FORMS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "scale": ("scale",),
    "composition": ("composition",),
    "element": ("element",),
    "pair": ("scale", "pair"),
    "angular": ("scale", "pair", "angular"),
}
"""Form -> the blocks of coefficients it has; from the simplest to the richest."""


@dataclass(frozen=True)
class Basis:
    """What the coefficients multiply.

    zeros_eV: the teacher's energy of each element. Scaled is only what stands above them: a scaled zero would be
    an energy that no force knows of. r_max_A, n_basis, max_ell: see the recipe.
    """

    elements: tuple[str, ...]
    zeros_eV: tuple[float, ...]
    r_max_A: float
    n_basis: int
    max_ell: int

    def columns(self, block: str, frame: Atoms, said: Prediction) -> Columns:
        """Return what the coefficients of `block` add to the teacher's labels `said` of a frame.

        scale: one, times the labels. composition: one an element, times its atomic fraction and the labels.
        element: one an element, times the forces on its atoms, which are then no longer those of an energy.
        """
        if block == "pair":
            return pair(frame, self.elements, self.r_max_A, self.n_basis)
        if block == "angular":
            return angular(frame, self.r_max_A, max(1, self.n_basis // 2), self.max_ell)
        counts = fr.composition([frame], self.elements)[0]
        energy_eV, forces = said.energy_eV - counts @ np.array(self.zeros_eV), said.forces_eV_per_A
        if block == "element":
            symbols = np.array(frame.get_chemical_symbols())
            own = np.array([symbols == element for element in self.elements])
            return Columns(np.zeros(len(own)), own[:, :, None] * forces)
        share = np.ones(1) if block == "scale" else counts / counts.sum()
        return Columns(share * energy_eV, share[:, None, None] * forces)


@dataclass(frozen=True)
class Reach:
    """How far a fit can be trusted.

    The leverage of a force component is the variance of its ridge prediction over that of the noise (Hoerl &
    Kennard, Technometrics 12, 55 (1970)): large where the training frames say nothing.
    root: (k, k) R with |R x|^2 the leverage of the columns x. half: leverage, averaged over a frame, at which half of
    the correction is left.
    """

    root: Array
    half: float

    def share(self, rows: Array) -> float:
        """Return the share of the correction that a frame with these rows, (3 n_atoms, k), gets."""
        return float(fade(np.mean(np.sum((rows @ self.root.T) ** 2, axis=1)), self.half))


def fade(leverage: Any, half: float) -> Any:
    """Return 1 far below `half`, 1/2 at it, and a share that vanishes above."""
    return 1.0 / (1.0 + (leverage / half) ** 2)


@dataclass(frozen=True)
class TeacherCorrection:
    """A fitted correction. coefficients: (k,) of each block of the form. reach: None trusts it everywhere."""

    form: str
    basis: Basis
    coefficients: Mapping[str, Array]
    reach: Reach | None = None

    @property
    def suffix(self) -> str:
        """What the name of a corrected teacher ends with."""
        return "" if self.form == "none" else f"+{self.form}"

    def apply(self, frames: Sequence[Atoms], predictions: Sequence[Prediction]) -> list[Prediction]:
        """Return the corrected energies and forces; stress is left out, since no frame of a pool has one."""
        return [self._one(frame, said) for frame, said in zip(frames, predictions, strict=True)]

    def _one(self, frame: Atoms, said: Prediction) -> Prediction:
        if not self.coefficients:
            return Prediction(said.energy_eV, said.forces_eV_per_A)
        columns = [self.basis.columns(block, frame, said) for block in self.coefficients]
        values = np.concatenate(list(self.coefficients.values()))
        energies_eV = np.concatenate([c.energy_eV for c in columns])
        forces = np.concatenate([c.forces_eV_per_A for c in columns])
        share = 1.0 if self.reach is None else self.reach.share(forces.reshape(len(forces), -1).T)
        return Prediction(
            said.energy_eV + share * float(values @ energies_eV),
            said.forces_eV_per_A + share * np.tensordot(values, forces, axes=1),
        )

    def write(self, path: Path, **more: Any) -> None:
        """Write it as JSON. more: what else the file should tell."""
        values = {block: list(map(float, values)) for block, values in self.coefficients.items()}
        reach = None if self.reach is None else {"half": self.reach.half, "root": self.reach.root.tolist()}
        stored = {"form": self.form, **more, "basis": asdict(self.basis), "coefficients": values, "reach": reach}
        path.write_text(json.dumps(stored, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> TeacherCorrection:
        """Read what `write` wrote."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        values = {block: np.array(values) for block, values in stored["coefficients"].items()}
        reach = stored["reach"] and Reach(np.array(stored["reach"]["root"]), stored["reach"]["half"])
        return cls(stored["form"], Basis(**stored["basis"]), values, reach)
