"""Whether steps are short enough for the lightest atoms."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

SHORT_FS = 1.0
"""Steps as long as this or longer are said to be too long with hydrogen: a stretch of O-H takes 9 fs."""

_LIGHT_AMU = 1.5
"""Lighter atoms are hydrogen; deuterium is heavy enough."""


def too_long(timestep_fs: float, starts: Sequence[Atoms]) -> str:
    """Return in a sentence that steps are too long for hydrogen among the starts, "" where they are not."""
    if timestep_fs < SHORT_FS or not any((atoms.get_masses() < _LIGHT_AMU).any() for atoms in starts):
        return ""
    return (
        f"steps of {timestep_fs:g} fs with hydrogen: its vibrations take 9 to 11 fs, and energy drifts; take"
        " timestep_fs 0.5"
    )
