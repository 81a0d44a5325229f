"""Frames: ase.Atoms with REF_* labels and provenance. The only reader and writer of them.

Whatever keys a file uses, inside there is one spelling: info["REF_energy"] (eV per cell),
arrays["REF_forces"] (n, 3) (eV/Angstrom), info["REF_stress"] (3, 3) (eV/Angstrom^3), and
info["frame_id"], info["label_source"]. What a user's file has under a name that only we write
is set aside (`keys.OWN`). ASE moves plain `energy` and `forces` of an extxyz into a calculator,
so labels are looked for there too and the result says where they were.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype
from numpy.typing import NDArray

from ipip_ext.data import extxyz
from ipip_ext.data.keys import ENERGY, FORCES, ID, SOURCE, STRESS, WEIGHT, LabelKeys
from ipip_ext.data.normalising import is_isolated, labels_in, normalised_frame, stored_labels
from ipip_ext.data.states import take
from ipip_ext.data.storable import restored, storable
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Prediction
from ipip_ext.potentials.cells import is_flat
from ipip_ext.potentials.faults import fault_of
from ipip_ext.run import picked

__all__ = ["ENERGY", "FORCES", "ID", "SOURCE", "STRESS", "WEIGHT", "LabelKeys"]


def read_structures(path: Path) -> list[Atoms]:
    """Read every structure of a file in any format ASE knows, or those that `file@index` picks, see `run.picked`.

    Raises DataError if the file is missing, empty, unreadable, or holds non-finite positions, and for an index that
    picks none.
    """
    file, index = picked.split(path)
    frames = _read_all(file)
    if index is None:
        return checked(frames, path)
    wanted = picked.chosen(index, len(frames))
    if not wanted:
        raise DataError(f"{path}: names none of its {len(frames)} structures; give a number or a slice a:b:c.")
    return checked([frames[place] for place in wanted], path)


def _read_all(path: Path) -> list[Atoms]:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file in it.")
    if not path.is_file():
        raise DataError(f"{path}: {_why_missing(path)}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; it should hold structures.")
    try:
        if filetype(str(path)) == "extxyz":
            extxyz.check(path)
        frames: list[Atoms] = ase.io.read(path, index=":", do_not_split_by_at_sign=True)
    except DataError:
        raise
    except UnknownFileTypeError:
        raise DataError(f"{path}: ASE does not know this format; save it as .extxyz.") from None
    except Exception as error:
        raise DataError(f"{path}: can't be read ({_one_line(error)}); save it again as extended XYZ.") from error
    if not frames:
        raise DataError(f"{path}: holds no structures; save it again as extended XYZ.")
    return [restored(atoms) for atoms in frames]


def checked(frames: Sequence[Atoms], where: object) -> list[Atoms]:
    """Return structures of `where`, such as a file. Raises DataError for one that can't be, or if there are none."""
    if not frames:
        raise DataError(f"{where}: holds no structures; give one or more.")
    for index, atoms in enumerate(frames):
        _check_geometry(atoms, f"{where}: frame {index}")
    return list(frames)


def read_labelled(
    path: Path, keys: LabelKeys | None = None, prefix: str = "", *, whole: bool = True
) -> list[Atoms]:  # fmt: skip
    """Read frames with labels and normalise them to REF_*.

    prefix: start of frame ids, which tell a frame's place in its file. whole: whether each must have all labels that
    `keys` name; else any may lack some, and each one counts for what it has.
    Raises DataError as `normalised` does.
    """
    return normalised(read_structures(path), path, keys, prefix, whole=whole)


def normalised(
    raw: Sequence[Atoms], path: Path, keys: LabelKeys | None = None, prefix: str = "", *, whole: bool = True
) -> list[Atoms]:  # fmt: skip
    """Return labelled frames with their labels as REF_*. path: where they are from, as errors name it.

    Raises DataError naming file, frame and remedy for labels that are absent, partial, non-finite
    or of the wrong shape.
    """
    keys = keys or LabelKeys()
    found = [labels_in(atoms, keys) for atoms in raw]
    wanted = {"energy": keys.energy, "forces": keys.forces, "stress": keys.stress, "virials": keys.virials}
    lacks_all = {what for what in wanted if all(labels[what] is None for labels in found)}
    for what, key in wanted.items():
        if key is not None and (whole or {"energy", "forces"} <= lacks_all):
            _check_present(path, what, key, raw, [labels[what] for labels in found], keys.hint.format(what))
    frames = [
        normalised_frame(atoms, labels, f"{path}: frame {index}", f"{prefix}{index:05d}")
        for index, (atoms, labels) in enumerate(zip(raw, found, strict=True))
    ]
    for frame, atoms in zip(frames, raw, strict=True):
        take(frame, atoms.info, (keys.charge, keys.spin))
    return frames


def write_frames(path: Path, frames: Sequence[Atoms]) -> None:
    """Write frames as extended XYZ, whole or not at all.

    What stands in `info` comes back as it was, or is left out where neither a word nor JSON can say it.
    """
    part = path.with_name(path.name + ".part")
    bare = [storable(atoms) for atoms in frames]  # without calculator: REF_* only
    if bare:
        ase.io.write(part, bare, format="extxyz")
    else:
        part.touch()
    os.replace(part, path)


def read_frames(path: Path) -> list[Atoms]:
    """Read frames that `write_frames` wrote (REF_* as they stand); an empty file is an empty list."""
    if path.is_file() and path.stat().st_size == 0:
        return []
    return read_structures(path)


def labelled(atoms: Atoms, prediction: Prediction, source: str) -> Atoms:
    """Return a copy of `atoms` that carries `prediction` as its labels, and where they are from."""
    frame = atoms.copy()
    frame.info[ENERGY] = float(prediction.energy_eV)
    frame.arrays[FORCES] = np.asarray(prediction.forces_eV_per_A, dtype=float)
    if prediction.stress_eV_per_A3 is not None:
        frame.info[STRESS] = np.asarray(prediction.stress_eV_per_A3, dtype=float)
    frame.info[SOURCE] = source
    return frame


def labels_of(frame: Atoms) -> Prediction:
    """Return the REF_* labels of a frame."""
    stress = frame.info.get(STRESS)
    return Prediction(
        float(frame.info[ENERGY]),
        np.asarray(frame.arrays[FORCES], dtype=float),
        None if stress is None else np.asarray(stress, dtype=float).reshape(3, 3),
    )


def labels_where_known(frame: Atoms) -> Prediction:
    """Return the REF_* labels of a frame, NaN where it has none."""
    if ENERGY in frame.info and FORCES in frame.arrays:
        return labels_of(frame)
    whole = frame.copy()
    whole.info.setdefault(ENERGY, np.nan)
    whole.arrays.setdefault(FORCES, np.full((len(frame), 3), np.nan))
    return labels_of(whole)


def elements(frames: Iterable[Atoms]) -> set[str]:
    """Return the chemical symbols that occur in `frames`."""
    return {symbol for atoms in frames for symbol in atoms.get_chemical_symbols()}


def composition(frames: Sequence[Atoms], species: Sequence[str]) -> NDArray[np.float64]:
    """Return how many atoms of each species each frame has, (n_frames, n_species)."""
    return np.array([[a.get_chemical_symbols().count(s) for s in species] for a in frames], dtype=float)


def split_of(frame: Atoms, key: str | None, values: Sequence[str]) -> str:
    """Return `test_ood` for a frame whose info[key] is among `values`, else `test_id`."""
    return "test_ood" if key is not None and str(frame.info.get(key)) in values else "test_id"


def _why_missing(path: Path) -> str:
    file, at, index = path.name.rpartition("@")
    if at and file and path.with_name(file).is_file():
        return f"no such file, and {index!r} is no index of {file}; give a number or a slice a:b:c."
    return "no such file; check the path, which is relative to the recipe."


def _check_present(
    path: Path, what: str, key: str, raw: Sequence[Atoms], labels: list[Any], hint: str
) -> None:  # fmt: skip
    missing = [index for index, label in enumerate(labels) if label is None]
    if what in ("stress", "virials"):
        missing = [index for index in missing if not is_isolated(raw[index])]
    if not missing:
        return
    if len(missing) < len(raw):
        raise DataError(
            f"{path}: {len(missing)} of {len(raw)} frames have no {key} (first: frame {missing[0]});"
            " label them or take them out."
        )
    if what == "forces" and any(key in atoms.info for atoms in raw):
        raise DataError(f"{path}: {key} stands in the comment line; it must be a per-atom column ({key}:R:3).")
    raise DataError(f"{path}: no frame has {key}. Found: {_keys_found(raw)}. Set {hint} to the right one.")


def _keys_found(raw: Sequence[Atoms]) -> str:
    per_frame = sorted({str(key) for atoms in raw for key in atoms.info})
    per_atom = sorted({key for atoms in raw for key in atoms.arrays} - {"numbers", "positions"})
    stored = sorted({key for atoms in raw for key in stored_labels(atoms)})
    shown = [
        f"{kind} {', '.join(keys)}"
        for kind, keys in (("per frame", per_frame), ("per atom", per_atom), ("as plain labels", stored))
        if keys
    ]
    return "; ".join(shown) or "no labels at all"


def _check_geometry(atoms: Atoms, where: str) -> None:
    if len(atoms) == 0:
        raise DataError(f"{where}: has no atoms; take it out.")
    if atoms.numbers.min() < 1:
        raise DataError(f"{where}: holds X, which is no element; name it, or take the frame out.")
    if is_flat(atoms.cell.array, atoms.pbc):
        raise DataError(f"{where}: is periodic but its cell has no volume; give it a Lattice.")
    if (why := fault_of(atoms)) is not None:
        raise DataError(f"{where}: {why}; take it out.")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]
