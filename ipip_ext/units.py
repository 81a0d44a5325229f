"""Units: eV, Angstrom, amu, K inside; fs in recipes. See docs/conventions.md.

Conversions come from `ase.units` (CODATA 2014), so that a trajectory written here
and one written by plain ASE agree to the last bit.
"""

from __future__ import annotations

from ase import units as _ase

FS: float = _ase.fs
"""One femtosecond in ASE's time unit, Angstrom*sqrt(amu/eV)."""

KB_EV_PER_K: float = _ase.kB
"""Boltzmann's constant in eV/K."""

EV_PER_A3_PER_GPA: float = _ase.GPa
"""One GPa in eV/Angstrom^3."""

MEV_PER_EV: float = 1000.0
