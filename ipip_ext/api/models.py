"""A model, whatever stands for it, measured on labelled frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from ipip_ext.api.runs import Run
from ipip_ext.api.said import log
from ipip_ext.data import frames as fr
from ipip_ext.data.keys import LabelKeys
from ipip_ext.errors import CalculatorError
from ipip_ext.potentials.base import Potential
from ipip_ext.run import device as devices
from ipip_ext.run import state
from ipip_ext.stages.evaluate import measure
from ipip_ext.teachers.ase_potential import AsePotential
from ipip_ext.teachers.load import load_any

Named = Run | str | Path | Mapping[str, Any]
"""A run; a run or student folder; a MACE .model file; or a calculator entry: `chgnet` or {"xtb": "GFN1-xTB"}."""

_FRAMES = Path("frames")
"""How errors name frames that are no file's."""


def evaluate(
    model: Named | Potential | BaseCalculator, frames: str | Path | Atoms | Sequence[Atoms], *,
    energy_key: str = fr.ENERGY, forces_key: str = fr.FORCES, stress_key: str | None = None, device: str = "auto",
    batch_size: int = 32, trust_models: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Measure a model on labelled frames; return `n_frames` and errors by name, their units in it.

    model: what `Named` says, a Potential, or an ASE calculator. frames: structures, or a file in any format ASE reads.
    energy_key, forces_key, stress_key: what the labels are called there; without the last, stress is not measured.
    batch_size: frames evaluated together. trust_models: let another user's file load a pickled model.
    Energies are compared as they come.
    Raises DataError for frames or labels that can't be used, ModelFileError or CalculatorError for the model,
    StageFailed, naming the frame, if one gets no label.
    """
    with state.kept():
        labelled = _labelled(frames, LabelKeys(energy_key, forces_key, stress_key, hint="--{}-key"))
        potential = _potential(model, device, trusted=trust_models)
        found, remarks = measure(potential, labelled, batch_size)
        for remark in remarks:
            log.warning("%s", remark)
        return {"n_frames": len(labelled), **found}


def structures(frames: Atoms | Sequence[Atoms]) -> list[Atoms]:
    """Return structures that came from no file. Raises DataError for one that can't be, or if there are none."""
    return fr.checked([frames] if isinstance(frames, Atoms) else list(frames), _FRAMES)


def named(model: Named) -> str | Mapping[str, Any]:
    """Return a model as `load_any` takes it."""
    if isinstance(model, Mapping):
        return model
    return str(model.folder if isinstance(model, Run) else model)


def load_named(model: Named, device: str, *, trusted: bool) -> Potential:
    """Return the Potential that is meant; tell which pickled file it loads. Raises as `load_any` does."""
    return load_any(named(model), devices.resolve(device), trusted=trusted, say=lambda text: log.warning("%s", text))


def _potential(model: Named | Potential | BaseCalculator, device: str, *, trusted: bool) -> Potential:
    if isinstance(model, Run | str | Path | Mapping):
        return load_named(model, device, trusted=trusted)
    if isinstance(model, Potential):
        return model
    if hasattr(model, "get_potential_energy"):
        return AsePotential(model, str(getattr(model, "name", type(model).__name__)))
    raise CalculatorError(
        f"model: {type(model).__name__} is none; give a run, a folder, a .model file, an ASE calculator, or an entry"
        " such as chgnet."
    )


def _labelled(frames: str | Path | Atoms | Sequence[Atoms], keys: LabelKeys) -> list[Atoms]:
    if isinstance(frames, str | Path):
        return fr.read_labelled(Path(frames), keys, whole=False)
    return fr.normalised(structures(frames), _FRAMES, keys, whole=False)
