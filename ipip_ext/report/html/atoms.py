"""Pictures of structures: balls and sticks as SVG of its own, some seventy bytes an atom."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.utils import rotate
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ipip_ext.data.geometry import BOND_FACTOR, longest_bond
from ipip_ext.potentials.base import Array

SIDE_PX = 260.0
"""Of the square that a structure is drawn in."""

STYLE = (
    "circle{stroke:#000;stroke-width:.6}.bond{stroke:#555;stroke-width:3}"
    ".cell{stroke:#999;stroke-width:1;stroke-dasharray:5 4}text{font-family:sans-serif;text-anchor:middle}"
)
"""What the elements look like."""

_VIEW, _RADII, _MARGIN_PX, _LARGEST_PX_PER_A = "-80x,12y,0z", 0.7, 8.0, 60.0
"""From the side, where a slab shows its layers; share of the covalent radii, so that atoms behind are seen."""

_MOST_NAMED = 40
"""Of more atoms none has its symbol on it: letters would hide what they name."""


@dataclass(frozen=True)
class View:
    """A structure as it is seen, in pixels of a square; y grows downwards.

    places: (n, 2). order: the atoms from behind to the front, (n,). radii: (n,). bonds: pairs of atoms, (n_bonds, 2).
    edges: ends of the lines of the cell along its periodic vectors, (n_edges, 2, 2).
    """

    symbols: Sequence[str]
    places: Array
    order: NDArray[np.int64]
    radii: Array
    bonds: NDArray[np.int64]
    edges: Array

    @classmethod
    def of(cls, atoms: Atoms) -> View:
        """Look at a structure: from the side, and at one that is not periodic where it is broadest."""
        turn = rotate(_VIEW) if atoms.pbc.any() else _broadside(atoms.positions)
        seen, edges = atoms.positions @ turn, (_edges(atoms) @ turn)[..., :2]
        radii_A = _RADII * covalent_radii[atoms.numbers]
        flat = seen[:, :2]
        extent = np.concatenate([flat - radii_A[:, None], flat + radii_A[:, None], edges.reshape(-1, 2)])
        low, high = extent.min(axis=0), extent.max(axis=0)
        px_per_A = min((SIDE_PX - 2 * _MARGIN_PX) / float((high - low).max()), _LARGEST_PX_PER_A)

        def placed(points: Array) -> Array:
            middle = (points - (low + high) / 2) * np.array([1.0, -1.0])
            return np.asarray(SIDE_PX / 2 + middle * px_per_A, dtype=float)

        return cls(
            atoms.get_chemical_symbols(), placed(flat), np.argsort(seen[:, 2], kind="stable"), radii_A * px_per_A,
            _bonds(atoms), placed(edges),
        )  # fmt: skip

    def drawn(self, colours: Sequence[str], *, named: bool = False) -> str:
        """Return the structure as elements of SVG.

        colours: of each atom, as CSS has them. named: with symbols on the atoms, where those are few enough.
        """
        parts = [_lines(self.edges, "cell"), _lines(self.places[self.bonds], "bond")]
        for i in self.order:
            (x, y), radius = self.places[i], self.radii[i]
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colours[i]}"/>')
            if named and len(self.symbols) <= _MOST_NAMED:
                size = min(radius, 18.0)
                parts.append(
                    f'<text x="{x:.1f}" y="{y + 0.36 * size:.1f}" font-size="{size:.1f}">{self.symbols[i]}</text>'
                )
        return "".join(parts)


def _lines(ends: Array, kind: str) -> str:
    """Return lines as one path. ends: (n, 2, 2)."""
    if not len(ends):
        return ""
    path = "".join(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for a, b, c, d in ends.reshape(-1, 4))
    return f'<path class="{kind}" d="{path}"/>'


def _broadside(positions: Array) -> Array:
    """Return the rotation that puts the longest extent of the atoms across, and the shortest towards the reader."""
    axes = np.linalg.svd(positions - positions.mean(axis=0), full_matrices=True)[2]
    axes = axes * np.where(axes[np.arange(3), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    if np.linalg.det(axes) < 0:  # a picture of a chiral molecule must not be that of its mirror image
        axes[2] *= -1
    return np.asarray(axes.T, dtype=float)


def _bonds(atoms: Atoms) -> NDArray[np.int64]:
    """Return the pairs of atoms that are bonded as they stand; bonds across the border of a cell are not drawn."""
    found = cKDTree(atoms.positions).query_pairs(longest_bond(atoms), output_type="ndarray").reshape(-1, 2)
    radii = covalent_radii[atoms.numbers]
    lengths_A = np.linalg.norm(atoms.positions[found[:, 0]] - atoms.positions[found[:, 1]], axis=1)
    return np.asarray(found[lengths_A < BOND_FACTOR * radii[found].sum(axis=1)], dtype=np.int64)


def _edges(atoms: Atoms) -> Array:
    """Return the ends of the edges of the cell along its periodic vectors, (n_edges, 2, 3), none where it has none.

    Of a slab or wire they go through the middle of the atoms: where else its cell begins means nothing.
    """
    vectors = atoms.cell.array[atoms.pbc]
    if not len(vectors):
        return np.empty((0, 2, 3))
    inside = np.linalg.pinv(vectors) @ vectors
    origin = atoms.positions.mean(axis=0) @ (np.eye(3) - inside)
    found = []
    for axis, vector in enumerate(vectors):
        others = np.delete(vectors, axis, axis=0)
        for times in itertools.product((0, 1), repeat=len(others)):
            corner = origin + np.asarray(times, dtype=float) @ others
            found.append((corner, corner + vector))
    return np.array(found)
