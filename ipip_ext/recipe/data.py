"""Recipe sections of the task's labels: which files, under which keys, and what is held out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ipip_ext.recipe.numbers import Count, ForceLimit_eV_per_A, OpenShare
from ipip_ext.recipe.schema import Section

_SET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_TAKEN = ("id", "ood")
"""Splits that `ood` makes."""


class Ood(Section):
    """Which test frames are out of distribution, and so are reported apart."""

    key: str = "start"
    """`info` key of a frame that names where it came from."""

    values: tuple[str, ...]
    """Values of that key that training does not hold."""


class Data(Section):
    """The task's reference labels."""

    train: Path
    """Labelled frames to learn from (extended XYZ or any format ASE reads). Here and wherever else a recipe names a
    file of structures, `file@index` picks some, as on ASE's command line: `train.xyz@0:100`, `md.traj@-1`,
    `all.xyz@::2`."""

    test: Path | dict[str, Path]
    """Labelled frames for the final comparison; never used for training or selection. A mapping names several sets,
    {300K: a.extxyz, dihedral: b.extxyz}, each of which is a split of the table, test_300K and test_dihedral, beside
    test, which is all of them. A frame may lack energy or forces: it counts for what it has."""

    valid: Path | None = None
    """Labelled frames for choosing models. Without it `valid_fraction` of train is held out."""

    valid_fraction: OpenShare = 0.1
    """Share of train held out when `valid` is not given."""

    valid_split: Literal["random", "stratified", "grouped"] = "random"
    """`stratified` holds out the share of every group of `split_keys`; `grouped` holds out whole groups,
    for frames of one trajectory that are too alike to stand on both sides."""

    split_keys: tuple[str, ...] = ()
    """`info` keys that make a group, such as [start, temperature_K]."""

    n_train: Count | None = None
    """Train on this many frames only, for a learning curve; null: on all. They are drawn by the seed after
    validation is held out, so validation and test stay what they are, and fewer frames are a subset of more.
    With `valid_split: stratified` every group of `split_keys` gives its share."""

    n_labels: Count | None = None
    """Use this many frames of train in all, of which `valid_fraction` validates and the rest trains: 30 with 0.2 are
    24 + 6, as who has 30 labels would split them. They are drawn as those of `n_train`; only one of both may be
    given. null: all."""

    max_force_eV_per_A: ForceLimit_eV_per_A | None = None
    """Leave out of `train` the frames in which the force on an atom is larger, such as those that a reference method
    was asked for where a student had walked into nonsense; null: keep all. Test and `valid` are never thinned."""

    energy_key: str = "REF_energy"
    """`info` key of the reference energy, eV per cell."""

    forces_key: str = "REF_forces"
    """Array of the reference forces, eV/Angstrom."""

    stress_key: str | None = None
    """`info` key of the reference stress, eV/Angstrom^3 (ASE's sign, 3x3 or Voigt); none: stress is not trained."""

    virials_key: str | None = None
    """`info` key of the reference virials, eV (3x3 or Voigt), where a file holds these: -volume times the stress."""

    charge_key: str | None = None
    """`info` key of a frame's total charge, e, also in the file of `explore.starts`; null: `charge` or `total_charge`,
    where a file has one. All frames of a recipe have one charge."""

    spin_key: str | None = None
    """`info` key of a frame's spin multiplicity, 2S + 1, read as `charge_key` is; null: `spin` or `total_spin`."""

    e0s: Literal["fitted", "isolated_atoms"] | dict[str, Annotated[float, Field(ge=-1e9, le=1e9)]] = "fitted"
    """Energy zeros of the elements: `fitted` by least squares on train, taken from `isolated_atoms`
    (frames of one atom without neighbours, which need no forces), or given in eV as {Mo: -10.2, S: -4.1}."""

    isolated_atoms: Path | None = None
    """File of the isolated atoms with their energies, for `e0s: isolated_atoms`; null: they stand in train. They are
    never trained on."""

    ood: Ood | None = None
    """Reported apart as the split test_ood; the rest is test_id."""

    @property
    def tests(self) -> dict[str, Path]:
        """Files of test frames by the split that they make; `test` alone where the recipe names no sets."""
        if isinstance(self.test, Path):
            return {"test": self.test}
        return {f"test_{name}": path for name, path in self.test.items()}

    @field_validator("test", mode="before")
    @classmethod
    def _names_of_sets(cls, given: Any) -> Any:
        """Refuse names that can't be those of splits; numbers are taken as they are written."""
        if not isinstance(given, dict):
            return given
        names = [str(name) for name in given]
        if not names:
            raise ValueError("names no set; give a file, or sets such as {300K: a.extxyz, 600K: b.extxyz}")
        for name in names:
            if "@" in name and None in given.values():  # YAML takes file@3: for a key
                raise ValueError(f"{name}: must stand in quotes, as it ends in a colon")
            if not _SET.fullmatch(name):
                raise ValueError(f"{name[:60]!r} can't name a set; take up to 40 letters, digits, '.', '_' and '-'")
            if name.lower() in _TAKEN:
                raise ValueError(f"{name} is no name for a set: test_{name.lower()} is the split that ood makes")
            if [other.lower() for other in names].count(name.lower()) > 1:
                raise ValueError(f"{name} names two sets; names may differ in more than capitals alone")
        return dict(zip(names, given.values(), strict=True))

    @model_validator(mode="after")
    def _one_number(self) -> Data:
        if self.n_labels is not None and self.n_train is not None:
            raise ValueError("n_labels and n_train would both say how many frames are used; leave one of them out")
        if self.n_labels is not None and self.valid is not None:
            raise ValueError("n_labels counts validation frames too, which valid gives already; say n_train instead")
        return self

    @model_validator(mode="after")
    def _keys_for_groups(self) -> Data:
        if self.valid_split != "random" and not self.split_keys:
            raise ValueError(f"valid_split {self.valid_split} needs split_keys, such as [start]")
        return self

    @model_validator(mode="after")
    def _one_stress(self) -> Data:
        if self.stress_key is not None and self.virials_key is not None:
            raise ValueError("stress_key and virials_key would both give the stress; leave one of them out")
        return self
