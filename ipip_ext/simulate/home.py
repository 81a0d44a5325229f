"""How far a walk's frames are from what its model has learnt: columns of the log, a line in time, and the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.errors import CalculatorError
from ipip_ext.md.guard import Watch
from ipip_ext.md.replicas import Replica
from ipip_ext.potentials.base import Array, Potential
from ipip_ext.potentials.home import EDGE, HasHome, farthest, has_home, told

COLUMNS = ("home_distance", "home_farthest_atom", "home_atoms_outside")
"""Of the log: of the atom that is farthest from home, its index, and how many atoms are above 1."""

_MOST_ATOMS = 5


def require(potential: Potential) -> None:
    """Raise CalculatorError if `potential` can't tell where it is at home."""
    if not has_home(potential):
        raise CalculatorError(
            f"{potential.name}: can't tell where it has learnt nothing, so on_unknown can't be stop; take warn, or a"
            " student whose folder holds home.safetensors (of an older run: `ipip-mace run` with --redo model)."
        )


def watch_of(potential: Potential) -> Watch | None:
    """Return what tells home distances; None for a potential that can't.

    A frame is asked about by itself, so that no other has a say in its last digits.
    """
    if not (isinstance(potential, HasHome) and has_home(potential)):
        return None
    return lambda frame: potential.home_distances([frame])[0]


def cannot_tell(potential: Potential, on_unknown: str) -> str:
    """Return that a student, or another MACE, can't tell where it has learnt nothing; "" if it can, or nobody asks."""
    if on_unknown == "ignore" or not isinstance(potential, HasHome) or has_home(potential):
        return ""
    return f"{potential.name} can't tell where it has learnt nothing: there is no home.safetensors beside it"


def columns(distances: Array | None) -> dict[str, Any]:
    """Return a frame's part of the log; not a number where it was not looked at."""
    if distances is None:
        return dict.fromkeys(COLUMNS, "nan")
    atom = farthest(distances)
    return dict(zip(COLUMNS, (f"{distances[atom]:.4f}", atom, int(np.count_nonzero(distances > EDGE))), strict=True))


def first_words(frame: Atoms, distances: Array) -> str:
    """Return what is said when a walk is outside for the first time. frame: as `md.kept.as_atoms` gives it."""
    return (
        f"warning: {frame.info['replica']} (start {frame.info['start']}) is outside of what the model has learnt:"
        f" at step {frame.info['md_step']} {told(frame, distances)} (limit {EDGE:g}); said once, log.csv tells all."
    )


def summarise(replica: Replica, series: Mapping[str, Array]) -> dict[str, Any] | None:
    """Return how often, how far, since when and with which atoms a walk was outside; None if that was not looked at.

    series: columns of its log. Atoms are those that were farthest in a frame.
    """
    distances = series.get(COLUMNS[0], np.zeros(0))
    distances = distances[~np.isnan(distances)]
    if not len(distances):
        return None
    is_outside = series[COLUMNS[0]] > EDGE
    where = np.flatnonzero(is_outside)
    atoms = Counter(int(atom) for atom in series[COLUMNS[1]][is_outside])
    largest = float(distances.max())
    return {
        "frames_looked_at": len(distances),
        "frames_outside": len(where),
        "largest_distance": largest if np.isfinite(largest) else None,
        "first_outside_step": int(series["step"][where[0]]) if len(where) else None,
        "first_outside_ps": float(series["time_ps"][where[0]]) if len(where) else None,
        "farthest_atoms": [
            {"atom": atom, "element": str(replica.start.symbols[atom]), "frames": count}
            for atom, count in atoms.most_common(_MOST_ATOMS)
        ],
    }


def lines(walks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line on all walks for the terminal; none where that was not looked at."""
    found = [(walk, walk["home"]) for walk in walks if walk.get("home")]
    if not found:
        return []
    n_frames, n_outside = (sum(home[key] for _, home in found) for key in ("frames_looked_at", "frames_outside"))
    text = f"outside of what the model has learnt (home distance above {EDGE:g}): {n_outside} of {n_frames} frames"
    if not n_outside:
        return [text]
    walk, home = min(
        ((walk, home) for walk, home in found if home["frames_outside"]), key=lambda one: one[1]["first_outside_step"]
    )
    atoms = ", ".join(f"{one['atom']} {one['element']} ({one['frames']})" for one in home["farthest_atoms"])
    return [f"{text}, first at {home['first_outside_ps']:g} ps in {walk['replica']}; farthest there: atom {atoms}"]
