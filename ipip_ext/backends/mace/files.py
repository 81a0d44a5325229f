"""Model files: safetensors and JSON for us, an ordinary MACE pickle for everyone else."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ipip_ext.backends import home_file
from ipip_ext.backends.mace.claims import fits
from ipip_ext.backends.mace.features import invariant_columns
from ipip_ext.backends.mace.model import Spec, Student, build
from ipip_ext.errors import ModelFileError

WEIGHTS, SPEC, NATIVE = "student.safetensors", "student.json", "student.model"
_FORMAT = 1

_KEPT = 8
"""Sizes of students that a process keeps an empty one of."""


def save(student: Student, folder: Path) -> None:
    """Write weights and spec into `folder`; neither is a pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous().clone() for key, value in student.module.state_dict().items()}
    part = folder / (WEIGHTS + ".tmp")
    save_file(state, part)
    os.replace(part, folder / WEIGHTS)
    spec = {"format": _FORMAT, "backend": "mace", **student.spec.as_json()}
    (folder / SPEC).write_text(json.dumps(spec, indent=1), encoding="utf-8")


def load(folder: Path) -> Student:
    """Read what `save` wrote. Raises ModelFileError if it is missing, broken, or does not fit together."""
    for name in (SPEC, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelFileError(f"{folder / name}: no such file; is {folder} the folder of a student?")
    try:
        data = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            raise ValueError(data["format"])
        spec = Spec.from_json(data)
        weights = load_file(folder / WEIGHTS)
        if not fits(spec, weights):  # before anything is built, whose size is the spec's word
            raise _unfit(folder)
        student = _without_weights(spec)
    except (SafetensorError, OSError, ValidationError):
        raise _unfit(folder) from None
    except ModelFileError:
        raise
    except Exception:  # noqa: BLE001 - MACE and e3nn raise whatever numbers that make no model lead to
        raise ModelFileError(f"{folder / SPEC}: is corrupt; export the model again with `ipip-mace run`.") from None
    mine = student.module.state_dict()
    if mine.keys() != weights.keys() or not all(_fits(weights[key], mine[key]) for key in mine):
        raise _unfit(folder)
    student.module.load_state_dict(weights)
    student.home = home_file.load(folder / WEIGHTS, len(invariant_columns(student.module)))
    return student


def _without_weights(spec: Spec) -> Student:
    """Return a student whose weights and buffers are yet to be loaded."""
    alike = replace(spec, e0s_eV=(0.0,) * len(spec.e0s_eV), avg_num_neighbors=1.0, force_scale_eV_per_A=1.0)
    module = _empty(json.dumps(alike.as_json(), sort_keys=True)).clone().module
    for block in module.get_submodule("interactions").children():
        block.avg_num_neighbors = spec.avg_num_neighbors  # type: ignore[assignment] # a number, in no state_dict
    return Student(spec, module)


@lru_cache(maxsize=_KEPT)
def _empty(spec: str) -> Student:
    """Return a student to be copied: to build one takes e3nn ten times as long."""
    return build(Spec.from_json(json.loads(spec)), seed=0)


def _fits(value: torch.Tensor, mine: torch.Tensor) -> bool:
    return value.dtype == mine.dtype and value.shape == mine.shape and bool(torch.isfinite(value).all())


def _unfit(folder: Path) -> ModelFileError:
    return ModelFileError(f"{folder / WEIGHTS}: is corrupt or belongs to another {SPEC}; export the model again.")


def export(student: Student, folder: Path) -> Path:
    """Write `save`'s files and `student.model`, which MACE's own tools open like any of their models; return it.

    Where others compute with it in float32, total energies have the steps of float32, because MACE adds the zeros
    within the network. They stand there in double, so that whoever turns the model into float64 has them whole.
    """
    save(student, folder)
    module = student.clone().module.cpu()
    zeros = torch.tensor([student.spec.e0s_eV], dtype=torch.float64)
    module.get_submodule("atomic_energies_fn").register_buffer("atomic_energies", zeros)
    torch.save(module, folder / NATIVE)
    return folder / NATIVE


def load_native(path: Path, device: str) -> torch.nn.Module:
    """Unpickle a MACE model that the user named. Raises ModelFileError if it is not one."""
    try:
        module = torch.load(path, map_location=device, weights_only=False)
    except Exception as error:  # noqa: BLE001 - torch raises whatever its unpickler meets
        raise ModelFileError(
            f"{path}: can't be read as a model ({type(error).__name__}); name one that MACE saved."
        ) from None
    if not isinstance(module, torch.nn.Module) or not hasattr(module, "atomic_energies_fn"):
        raise ModelFileError(f"{path}: holds no MACE model; name a .model file that MACE saved.")
    return module
