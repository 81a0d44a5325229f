"""Neighbour lists whose cost depends neither on where a structure stands nor on the cell of an open direction.

matscipy sorts atoms into bins as wide as the cut-off, throughout the cell. Here the box along open directions is drawn
about the atoms; those far out of it fall into its outermost bins, so one atom that has flown away costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matscipy.neighbours import neighbour_list

from ipip_ext.potentials.base import Array
from ipip_ext.potentials.cells import closed

_BINS = 4_000
_BINS_PER_ATOM = 8
"""Bins along open directions are at most as many as there are atoms times this, or `_BINS`."""


def neighbours(
    quantities: str, positions: Array, cell: Array, pbc: Sequence[bool] | Array, cutoff_A: float
) -> tuple[Any, ...]:  # fmt: skip
    """Return what matscipy's `neighbour_list` does: of all pairs within `cutoff_A`, both ways, the `quantities`.

    "i", "j": indices. "S": cells crossed, 0 along open directions. "d", "D": distance and vector, A. Periodic images
    count, an atom's own too; the cell may be smaller than the cut-off. Raises ValueError if the periodic vectors span
    no volume.
    """
    periodic = np.asarray(pbc, dtype=bool)
    box, origin = closed(cell, periodic), np.zeros(3)
    if not periodic.all():
        box, origin = _about(positions, box, periodic, cutoff_A)
    found = neighbour_list(
        quantities, positions=positions, cell=box, pbc=periodic, cutoff=cutoff_A, cell_origin=origin
    )  # fmt: skip
    return found if isinstance(found, tuple) else (found,)


def _about(positions: Array, unit: Array, periodic: Any, cutoff_A: float) -> tuple[Array, Array]:
    """Return a box about the atoms, and its origin. unit: the cell, with unit vectors along open directions."""
    along = positions @ unit[~periodic].T
    first, last = along.min(axis=0), along.max(axis=0)
    heights = np.maximum(last - first, cutoff_A)
    most = max(_BINS, _BINS_PER_ATOM * len(positions))
    while np.prod(bins := np.maximum(heights / cutoff_A, 1.0)) > most:
        heights[np.argmax(bins)] /= 2
    box = unit.copy()
    box[~periodic] *= heights[:, None]
    start = np.maximum(first, np.minimum(np.median(along, axis=0) - heights / 2, last - heights))
    return box, start @ unit[~periodic]
