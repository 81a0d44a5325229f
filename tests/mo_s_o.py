"""Frames of the Mo-S-O task that ships with the project."""

from __future__ import annotations

import ase.io
from alloy import ROOT
from ase import Atoms

DATA = ROOT / "recipes/data/mo_s_o"


def frames() -> list[Atoms]:
    """Cells of three sizes, one with atoms moved across its borders as MD leaves them."""
    some = ase.io.read(DATA / "train.extxyz", index="::45")
    some += ase.io.read(DATA / "starts.extxyz", index="5:7")
    some.append(some[0].repeat((2, 1, 1)))
    some[1].positions += some[1].cell.array[0] * 3.3
    some[1].calc = None
    return some
