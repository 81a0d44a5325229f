"""What a trajectory says of structure and dynamics: RDF, VDOS, energy drift; and how a cell is strained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ipip_ext.data.geometry import pairs
from ipip_ext.potentials.base import Array
from ipip_ext.units import FS, MEV_PER_EV

RDF_BIN_A = 0.05
LONGEST_LAG_FS = 1000.0
"""Of the velocity autocorrelation: lines of the spectrum are about 1 THz wide, wider than what chance moves them by."""

VACUUM_A = 5.0
"""A gap without atoms along a cell vector from which on that direction counts as vacuum: layers stand closer."""


def velocities(positions_A: Array, cell: Array, pbc: Sequence[bool], step_fs: float) -> Array:
    """Return velocities in Angstrom/fs at all frames but the first and last, (n_frames - 2, n, 3).

    Central differences: of consecutive steps of velocity Verlet they are its own velocities exactly (Swope et al.,
    J. Chem. Phys. 76, 637 (1982)). Atoms that were wrapped into the cell between two frames are followed.
    positions_A: (n_frames, n, 3). cell: (3, 3), the same for all frames.
    """
    moved = positions_A[2:] - positions_A[:-2]
    turns = np.round(moved @ np.linalg.inv(cell)) * np.asarray(pbc, dtype=float)
    return np.asarray((moved - turns @ cell) / (2 * step_fs), dtype=float)


def kinetic_energies(velocities_A_per_fs: Array, masses: Array) -> Array:
    """Return the kinetic energy of each frame, eV, (n_frames,). masses: (n,), amu."""
    return np.asarray(0.5 * np.einsum("tnx,n->t", velocities_A_per_fs**2, masses) / FS**2)


def drift(time_ps: Array, energy_eV_per_atom: Array) -> tuple[float, float]:
    """Return the slope of a total energy, meV/atom/ns, and the RMS about that line, meV/atom. Both: (n,)."""
    slope, offset = np.polyfit(time_ps, energy_eV_per_atom, 1)
    rest = energy_eV_per_atom - (slope * time_ps + offset)
    return float(slope * MEV_PER_EV * 1e3), float(np.sqrt(np.mean(rest**2)) * MEV_PER_EV)


def rdf(frames: Sequence[Atoms], longest_A: float) -> tuple[Array, dict[str, Array]]:
    """Return distances, (n_bins,), and what each pair of elements adds to the radial distribution function.

    g(r) = V/N <pairs at r> / (4 pi r^2 dr): the parts, such as "Mo-S", add up to that of all atoms. Periodic images
    count, so `longest_A` may exceed the cell. All frames hold the same atoms. V is that of `_volume`.
    """
    edges = np.arange(0.0, longest_A + RDF_BIN_A / 2, RDF_BIN_A)
    first = frames[0]
    symbols = np.array(first.get_chemical_symbols())
    kinds, kind = np.unique(symbols, return_inverse=True)
    found: dict[str, Array] = {}
    for atoms in frames:
        near = pairs(atoms, float(edges[-1]))
        low, high = np.sort([kind[near.i], kind[near.j]], axis=0)
        for a in range(len(kinds)):
            for b in range(a, len(kinds)):
                counts = np.histogram(near.distances_A[(low == a) & (high == b)], edges)[0]
                name = f"{kinds[a]}-{kinds[b]}"
                found[name] = found.get(name, np.zeros(len(edges) - 1)) + counts
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    scale = _volume(first, float(edges[-1])) / (len(first) ** 2 * shells * len(frames))
    middles = np.asarray((edges[1:] + edges[:-1]) / 2, dtype=float)
    return middles, {name: counts * scale for name, counts in found.items()}


def _volume(atoms: Atoms, longest_A: float) -> float:
    """Return the volume, A^3, that atoms are spread over where g(r) is 1: the cell's, vacuum included.

    Where it is not periodic the cell says nothing, and all within `longest_A` counts: of a molecule the sphere, of a
    wire the cylinder about it, of a slab the layer that reaches as far up and down.
    """
    if atoms.pbc.all():
        return abs(float(np.linalg.det(atoms.cell.array)))
    vectors = atoms.cell.array[atoms.pbc]
    along = float(np.sqrt(np.linalg.det(vectors @ vectors.T)))
    return along * {1: 2.0, 2: np.pi, 3: 4 / 3 * np.pi}[3 - len(vectors)] * longest_A ** (3 - len(vectors))


def vdos(velocities_A_per_fs: Array, masses: Array, step_fs: float) -> tuple[Array, Array]:
    """Return frequencies, THz, and the vibrational density of states, 1/THz, which integrates to 1.

    The spectrum of the mass-weighted velocity autocorrelation function over all atoms and time origins (Dickey and
    Paskin, Phys. Rev. 188, 1407 (1969)), up to a lag of `LONGEST_LAG_FS` or half the walk, with Hann's window.
    velocities_A_per_fs: (n_frames, n, 3). masses: (n,), amu.
    """
    n = len(velocities_A_per_fs)
    lags = min(round(LONGEST_LAG_FS / step_fs), n // 2) + 1
    weighted = (velocities_A_per_fs * np.sqrt(masses)[:, None]).reshape(n, -1)
    power = (np.abs(np.fft.rfft(weighted, n=2 * n, axis=0)) ** 2).sum(axis=1)
    correlation = np.fft.irfft(power)[:lags] / (n - np.arange(lags))
    correlation *= 0.5 * (1 + np.cos(np.pi * np.arange(lags) / lags))
    spectrum = np.fft.rfft(np.concatenate([correlation, [0.0], correlation[:0:-1]])).real
    frequency_THz = np.asarray(np.fft.rfftfreq(2 * lags, step_fs / 1e3), dtype=float)
    density = np.maximum(spectrum, 0.0)
    return frequency_THz, density / max(float(np.trapezoid(density, frequency_THz)), 1e-300)


def distance(ours: Array, theirs: Array) -> float:
    """Return how far two densities on one grid are apart: 0 for the same, 1 for none in common.

    The integral of |a - b| by that of a + b: 1 less the score of Schran et al., PNAS 118, e2110077118 (2021).
    """
    both = float(np.sum(ours + theirs))
    return float(np.sum(np.abs(ours - theirs))) / both if both > 0 else 0.0


def strained_directions(atoms: Atoms) -> list[bool]:
    """Return for each cell vector whether matter goes on along it: periodic, and without a gap of vacuum."""
    cell = atoms.cell.complete()
    fractions = np.sort(cell.scaled_positions(atoms.positions) % 1.0, axis=0)
    found = []
    for axis in range(3):
        column = fractions[:, axis]
        gap = float(np.diff(np.append(column, column[0] + 1.0)).max())
        normal = np.linalg.inv(cell.array)[:, axis]
        found.append(bool(atoms.pbc[axis]) and gap / float(np.linalg.norm(normal)) < VACUUM_A)
    return found


def strain(atoms: Atoms, by: float) -> Atoms:
    """Return a copy whose cell is longer by the share `by` along its `strained_directions`, fractions kept."""
    copy = atoms.copy()
    copy.set_constraint()  # a fixed atom moves with the cell
    factor = np.where(strained_directions(atoms), 1.0 + by, 1.0)
    copy.set_cell(atoms.cell.array * factor[:, None], scale_atoms=True)
    return copy
