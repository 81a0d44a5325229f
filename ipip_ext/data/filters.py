"""Which sampled frames are worth a label at all: reasons to drop one, each by a name.

Coordination and density of a frame are no absolute matter, nor is whether it may be in pieces. So
the limits are measured, once, on frames that are trusted: starts and reference frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ipip_ext.data import geometry
from ipip_ext.potentials.base import Array
from ipip_ext.recipe.labels import Select

REASONS = ("non_finite", "force", "distance", "evaporated", "coordination", "density")
"""In the order in which they are looked for; a frame is counted under the first that holds."""

_MORE_BONDS = 2
"""Bonds an atom may always have beyond the trusted ones: hydrogen of a molecule may sit in a metal's hollow."""


@dataclass(frozen=True)
class Shape:
    """What of a frame is compared with trusted frames.

    coordination: atomic number -> largest coordination number of that element.
    """

    formula: str
    n_fragments: int
    coordination: dict[int, int]
    density_per_A3: float


@dataclass(frozen=True)
class Known:
    """What trusted frames of one formula show."""

    most_fragments: int
    thinnest_per_A3: float
    densest_per_A3: float


class Filters:
    """The filters of `select`.

    trusted: frames whose shapes are right by definition. A frame is in pieces, too thin or too dense by
    comparison with those of its formula, which includes its own start; with all where none has it.
    """

    def __init__(self, settings: Select, trusted: Sequence[Atoms]) -> None:
        self.settings = settings
        shapes = [shape_of(frame, settings.max_gap_A) for frame in trusted]
        by_formula: defaultdict[str, list[Shape]] = defaultdict(list)
        for shape in shapes:
            by_formula[shape.formula].append(shape)
        self._known = {formula: _known(some) for formula, some in by_formula.items()}
        self._of_any = _known(shapes)
        self._coordination = _largest_coordination(shapes)

    def reason(self, frame: Atoms, forces_eV_per_A: Array) -> str | None:
        """Return None for a frame worth a label, else one of `REASONS`. forces_eV_per_A: (n, 3), the student's."""
        settings = self.settings
        if not (np.all(np.isfinite(frame.positions)) and np.all(np.isfinite(forces_eV_per_A))):
            return "non_finite"
        if np.linalg.norm(forces_eV_per_A, axis=1).max() > settings.max_force_eV_per_A:
            return "force"
        if geometry.closest_approach(frame, settings.min_distance_factor) < settings.min_distance_factor:
            return "distance"
        return self._by_shape(shape_of(frame, settings.max_gap_A))

    def _by_shape(self, shape: Shape) -> str | None:
        known = self._known.get(shape.formula, self._of_any)
        if shape.n_fragments > known.most_fragments:
            return "evaporated"
        if self._is_crowded(shape):
            return "coordination"
        if self._is_off_density(shape, known):
            return "density"
        return None

    def _is_crowded(self, shape: Shape) -> bool:
        factor = self.settings.max_coordination_factor
        if factor is None:
            return False
        trusted = ((n, self._coordination[z]) for z, n in shape.coordination.items() if z in self._coordination)
        return any(n > max(factor * most, most + _MORE_BONDS) for n, most in trusted)

    def _is_off_density(self, shape: Shape, known: Known) -> bool:
        factor = self.settings.density_factor
        if factor is None:
            return False
        return not known.thinnest_per_A3 / factor <= shape.density_per_A3 <= known.densest_per_A3 * factor


def shape_of(frame: Atoms, max_gap_A: float | None) -> Shape:
    """Measure a frame. max_gap_A: atoms nearer than this are of one fragment; None: all are."""
    reach_A = max(geometry.DENSITY_RADIUS_A, geometry.longest_bond(frame), max_gap_A or 0.0)
    near = geometry.pairs(frame, reach_A)
    bonds = geometry.coordination_numbers(frame, near)
    return Shape(
        formula=frame.get_chemical_formula(),
        n_fragments=1 if max_gap_A is None else geometry.n_fragments(len(frame), near, max_gap_A),
        coordination={int(z): int(bonds[frame.numbers == z].max()) for z in np.unique(frame.numbers)},
        density_per_A3=geometry.density(len(frame), near),
    )


def _known(shapes: Sequence[Shape]) -> Known:
    densities = [shape.density_per_A3 for shape in shapes]
    return Known(max(shape.n_fragments for shape in shapes), min(densities), max(densities))


def _largest_coordination(shapes: Iterable[Shape]) -> dict[int, int]:
    largest: dict[int, int] = {}
    for shape in shapes:
        for z, n in shape.coordination.items():
            largest[z] = max(n, largest.get(z, 0))
    return largest
