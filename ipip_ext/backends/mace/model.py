"""The student: a MACE module and the spec that rebuilds it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers as number_of
from ase.data import chemical_symbols

from ipip_ext.backends.home import Home
from ipip_ext.backends.mace import native
from ipip_ext.backends.mace._mace import default_dtype, modules, o3
from ipip_ext.data import frames as fr
from ipip_ext.data.weights import counted
from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.neighbours import neighbours
from ipip_ext.recipe.students import MaceConfig

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_ZEROS = "atomic_energies_fn.atomic_energies"


@dataclass(frozen=True)
class Spec:
    """All that decides a student besides its weights.

    avg_num_neighbors is a plain float inside MACE, outside its state_dict: lost here, it would
    silently change every energy of a reloaded model.
    shape: a model of another make is built by these arguments of MACE (`native`), and config tells of it what it can.
    """

    config: MaceConfig
    atomic_numbers: tuple[int, ...]
    e0s_eV: tuple[float, ...]
    avg_num_neighbors: float
    force_scale_eV_per_A: float
    shape: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads."""
        data = {**asdict(self), "config": self.config.model_dump(mode="json")}
        return {key: value for key, value in data.items() if key != "shape" or value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        """Read what `as_json` gave. Raises KeyError, TypeError or ValueError if it is something else."""
        spec = cls(
            MaceConfig.model_validate(data["config"]),
            tuple(int(z) for z in data["atomic_numbers"]),
            tuple(float(e) for e in data["e0s_eV"]),
            float(data["avg_num_neighbors"]),
            float(data["force_scale_eV_per_A"]),
            data.get("shape"),
        )
        known = [z for z in spec.atomic_numbers if 0 < z < len(chemical_symbols)]
        numbers = (*spec.e0s_eV, spec.avg_num_neighbors, spec.force_scale_eV_per_A)
        if not known or len(set(known)) != len(spec.atomic_numbers) or len(known) != len(spec.e0s_eV):
            raise ValueError("species and their energy zeros don't go together")
        if not np.isfinite(numbers).all() or spec.avg_num_neighbors <= 0:
            raise ValueError("numbers that no model has")
        return spec


@dataclass
class Student:
    """A MACE module with its spec; the module is on the CPU, in the spec's dtype.

    home: what these very weights have learnt, of a student that was read beside it; None if that is not known.
    """

    spec: Spec
    module: torch.nn.Module
    home: Home | None = None

    def clone(self) -> Student:
        """Return a deep copy, to be changed: so it has no home."""
        return Student(self.spec, copy.deepcopy(self.module))


def measure(config: MaceConfig, e0s_eV: Mapping[str, float], frames: Sequence[Atoms]) -> Spec:
    """Return the spec of a student for `frames`: neighbours per atom and the RMS of their forces.

    The scale follows MACE's own `rms_forces_scaling`.
    """
    pairs = sorted((number_of[symbol], e0) for symbol, e0 in e0s_eV.items())
    forces = np.concatenate([frame.arrays[fr.FORCES].ravel() for frame in counted(frames, "forces")])
    some = frames[:: max(1, len(frames) // 100)]
    edges = sum(_n_edges(frame, config.r_max_A) for frame in some)
    return Spec(
        config=config,
        atomic_numbers=tuple(z for z, _ in pairs),
        e0s_eV=tuple(float(e0) for _, e0 in pairs),
        avg_num_neighbors=max(edges / sum(len(frame) for frame in some), 1.0),
        force_scale_eV_per_A=float(max(np.sqrt(np.mean(forces**2)), 1e-3)),
    )


def build(spec: Spec, seed: int) -> Student:
    """Return a freshly initialised student; the same seed gives bitwise the same weights.

    Built in float64 and cast, because e3nn draws other numbers in float32.
    """
    with torch.random.fork_rng(devices=[]), default_dtype(torch.float64), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # e3nn's scripts annotate in ways torch now dislikes
        torch.manual_seed(seed)
        module = _module(spec)
    return Student(spec, module.to(DTYPES[spec.config.dtype]))


def adopt(module: torch.nn.Module, name: str) -> Student:
    """Return a module of another make as a student that `build` can rebuild: all its weights, in its own dtype.

    name: of the model, for messages. Raises CalculatorError if it has parts that can't be rebuilt.
    """
    shape = native.architecture(module, name)
    same = {key: shape[key] for key in MaceConfig.model_fields if key in shape}
    dtype = str(next(module.parameters()).dtype).removeprefix("torch.")
    try:
        config = MaceConfig.model_validate({**same, "r_max_A": shape["r_max"], "dtype": dtype})
    except ValueError as error:
        raise CalculatorError(f"mace: {name} is a MACE of a size that can't be fine-tuned ({error}).") from None
    e0s = module.get_buffer(_ZEROS).double().ravel()
    spec = Spec(
        config=config,
        atomic_numbers=tuple(int(z) for z in module.atomic_numbers),  # type: ignore[union-attr]
        e0s_eV=tuple(float(e0) for e0 in e0s),
        avg_num_neighbors=float(module.interactions[0].avg_num_neighbors),  # type: ignore[index, union-attr]
        force_scale_eV_per_A=float(np.mean(shape["atomic_inter_scale"])),
        shape=shape,
    )
    student = build(spec, seed=0)
    state = module.state_dict()
    state[_ZEROS] = state[_ZEROS].reshape(1, -1)  # MACE reads both shapes, and builds one
    parameters = {key for key, _ in student.module.named_parameters()}
    try:
        loaded = student.module.load_state_dict(state, strict=False)  # a model of an older MACE has fewer buffers
    except RuntimeError:
        loaded = None
    if loaded is None or loaded.unexpected_keys or parameters & set(loaded.missing_keys):
        raise CalculatorError(f"mace: {name} has parts that can't be rebuilt; save it anew with this mace-torch.")
    return student


def shift_e0s(student: Student, delta_eV: Mapping[int, float]) -> Student:
    """Return a copy whose energy zeros are `delta_eV` (by atomic number) higher."""
    e0s = tuple(
        e0 + delta_eV.get(z, 0.0) for z, e0 in zip(student.spec.atomic_numbers, student.spec.e0s_eV, strict=True)
    )
    shifted = Student(replace(student.spec, e0s_eV=e0s), copy.deepcopy(student.module))
    zeros = shifted.module.get_buffer(_ZEROS)
    zeros.copy_(torch.tensor([e0s], dtype=zeros.dtype))
    return shifted


def _module(spec: Spec) -> torch.nn.Module:
    config = spec.config
    if spec.shape is not None:
        return native.construct(
            spec.shape, atomic_numbers=spec.atomic_numbers, e0s_eV=spec.e0s_eV,
            avg_num_neighbors=spec.avg_num_neighbors,
        )  # fmt: skip
    block = modules.RealAgnosticResidualInteractionBlock
    module: torch.nn.Module = modules.ScaleShiftMACE(
        r_max=config.r_max_A,
        num_bessel=config.num_bessel,
        num_polynomial_cutoff=config.num_polynomial_cutoff,
        max_ell=config.max_ell,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=config.num_interactions,
        num_elements=len(spec.atomic_numbers),
        hidden_irreps=o3.Irreps(config.hidden_irreps),
        MLP_irreps=o3.Irreps(config.MLP_irreps),
        atomic_energies=np.array([spec.e0s_eV]),
        avg_num_neighbors=spec.avg_num_neighbors,
        atomic_numbers=list(spec.atomic_numbers),
        correlation=config.correlation,
        gate=torch.nn.functional.silu,
        radial_MLP=list(config.radial_MLP),
        atomic_inter_scale=spec.force_scale_eV_per_A,
        atomic_inter_shift=0.0,
        use_reduced_cg=False,  # its default depends on what else is installed, and changes shapes
    )
    return module


def _n_edges(frame: Atoms, r_max_A: float) -> int:
    return len(neighbours("i", frame.positions, frame.cell.array, frame.pbc, r_max_A)[0])
