"""The MACE backend: the contract of `backends/base.py` spelled out with MACE's pieces."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ipip_ext.backends import home as homes
from ipip_ext.backends import home_file
from ipip_ext.backends.base import Backend, FitData, FitJob, FitResult, Tuning
from ipip_ext.backends.mace import files, foundation, states
from ipip_ext.backends.mace.model import Student, adopt, build, measure, shift_e0s
from ipip_ext.backends.mace.network import MaceNetwork
from ipip_ext.backends.mace.predict import MacePotential
from ipip_ext.backends.mace.run_train.process import RunTrain
from ipip_ext.backends.training import Trainer
from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.data.weights import counted, label_weights
from ipip_ext.errors import CalculatorError, RecipeError, did_you_mean
from ipip_ext.potentials.base import Potential
from ipip_ext.recipe.schema import Section
from ipip_ext.recipe.students import MaceConfig
from ipip_ext.recipe.training import Fit


class MaceBackend(Backend):
    """Small MACE students."""

    name = "mace"
    group_names = ("readouts", "interactions", "interactions.last", "products", "embedding", "all")

    def build(self, config: Section, e0s_eV: Mapping[str, float], frames: Sequence[Atoms], seed: int) -> Student:
        assert isinstance(config, MaceConfig)
        return build(measure(config, e0s_eV, frames), seed)

    def fit(self, model: Student, data: FitData, settings: Fit, job: FitJob) -> FitResult:
        factors = self.lr_factors(model, settings)
        return Trainer(MaceNetwork(model, job.device), data, settings, job, lr_factors=factors).run()

    def align_energies(self, model: Student, frames: Sequence[Atoms], device: str) -> Student:
        symbols = [chemical_symbols[z] for z in model.spec.atomic_numbers]
        predicted = np.array([p.energy_eV for p in self.potential(model, device).compute(frames)])
        wanted = np.array([frame.info[fr.ENERGY] for frame in frames])
        counts = label_weights(frames, "energy")
        delta = metrics.fit_zeros(fr.composition(frames, symbols), wanted - predicted, counts)
        return shift_e0s(model, dict(zip(model.spec.atomic_numbers, delta, strict=True)))

    def potential(self, model: Student, device: str) -> MacePotential:
        potential = MacePotential(copy.deepcopy(model.module), "student", device, model.spec.e0s_eV)
        potential.home = model.home
        return potential

    def calculator(self, model: Student, device: str) -> Calculator:
        return self.potential(model, device).calculator()

    def descriptors(self, model: Student, frames: Sequence[Atoms], device: str) -> NDArray[np.float64]:
        return self.potential(model, device).descriptors(frames)

    def groups(self, model: Student) -> dict[str, tuple[str, ...]]:
        names = [name for name, _ in model.module.named_parameters()]
        last = f"interactions.{model.spec.config.num_interactions - 1}."
        prefixes = {
            "readouts": "readouts.",
            "interactions": "interactions.",
            "interactions.last": last,
            "products": "products.",
            "embedding": "node_embedding.",
            "all": "",
        }
        return {group: tuple(n for n in names if n.startswith(prefix)) for group, prefix in prefixes.items()}

    def parameters(self, model: Student) -> dict[str, NDArray[Any]]:
        return {name: p.detach().cpu().numpy().copy() for name, p in model.module.named_parameters()}

    def forget(self, model: Student, groups: Sequence[str], keep: float, noise: float, seed: int) -> Student:
        known = self.groups(model)
        for group in groups:
            if group not in known:
                raise RecipeError(f"forget.groups: {group} is unknown.{did_you_mean(group, known)}")
        chosen = {name for group in groups for name in known[group]}
        fresh = dict(build(model.spec, seed).module.named_parameters())
        result = model.clone()
        with torch.no_grad():
            for name, parameter in result.module.named_parameters():
                if name in chosen:
                    parameter.copy_(keep * parameter + noise * fresh[name])
        return result

    def save(self, model: Student, folder: Path) -> None:
        files.save(model, folder)

    def load(self, folder: Path) -> Student:
        return files.load(folder)

    def export(self, model: Student, folder: Path) -> Path:
        return files.export(model, folder)

    def settle(
        self, model: Student, folder: Path, train: Sequence[Atoms], valid: Sequence[Atoms], device: str
    ) -> Path:  # fmt: skip
        potential = self.potential(model, device)
        described = (
            [(frame.numbers, features) for frame, features in zip(frames, potential.features(frames), strict=True)]
            for frames in (homes.drawn(train), homes.drawn(valid))
        )
        return home_file.save(homes.settle(*described), folder / files.WEIGHTS)

    def foundation(self, name_or_file: str, device: str) -> Potential:
        potential = MacePotential(foundation.load(name_or_file, device), f"mace:{Path(name_or_file).name}", device)
        _try(potential, name_or_file)
        return potential

    def tune_natively(
        self, model: Student, data: FitData, settings: Fit, tuning: Tuning, job: FitJob, log: Path
    ) -> FitResult:  # fmt: skip
        aligned = self.align_energies(model, data.train, job.device)
        said = self.potential(model, job.device).compute(data.replay)
        replay = [fr.labelled(frame, p, "foundation") for frame, p in zip(data.replay, said, strict=True)]
        start, data = model if replay else aligned, replace(data, replay=replay)
        trained = RunTrain(start, aligned.spec.e0s_eV, data, settings, tuning, job, log).run()
        tuned = adopt(trained.module, "what MACE's run_train has made")
        _require_equal(
            MacePotential(trained.module, "it", "cpu"), self.potential(tuned, "cpu"), sorted(fr.elements(data.train))
        )
        tuned = shift_e0s(tuned, dict(zip(aligned.spec.atomic_numbers, aligned.spec.e0s_eV, strict=True)))
        held = counted(data.valid, "energy", "forces")
        valid = metrics.errors(held, self.potential(tuned, job.device).compute(held))
        kept = {key: valid[key] for key in ("force_mae_meV_per_A", "energy_mae_meV_per_atom")}
        return FitResult(tuned, trained.state.best_epoch, trained.state.epoch, trained.steps, kept)

    def adopt(self, name_or_file: str, elements: Iterable[str]) -> Student:
        module = foundation.load(name_or_file, "cpu")
        model = adopt(module, name_or_file)
        known = {chemical_symbols[z] for z in model.spec.atomic_numbers}
        elements = sorted(elements)
        if unknown := [symbol for symbol in elements if symbol not in known]:
            raise CalculatorError(
                f"mace: {name_or_file} does not know {', '.join(unknown)}; name a model that was trained on them."
            )
        _require_equal(MacePotential(module, name_or_file, "cpu"), self.potential(model, "cpu"), elements)
        return model


def _try(potential: MacePotential, name: str) -> None:
    """Raise CalculatorError for a model that asks for more than we give, which shows when it is called."""
    try:
        potential.compute([Atoms(numbers=[min(potential.index)])])
    except KeyError as error:
        raise CalculatorError(states.needs(name, str(error.args[0]))) from None


def _require_equal(given: MacePotential, rebuilt: MacePotential, elements: Sequence[str]) -> None:
    """Raise CalculatorError if two models differ on a small cell: not all that decides a MACE is in its weights."""
    cell = bulk("Cu", "fcc", a=4.2, cubic=True)
    cell.symbols = [elements[i % len(elements)] for i in range(len(cell))]
    cell.rattle(0.1, seed=0)
    one, other = (potential.compute([cell])[0] for potential in (given, rebuilt))
    same = np.isclose(one.energy_eV, other.energy_eV, rtol=1e-4, atol=1e-3)
    if not (same and np.allclose(one.forces_eV_per_A, other.forces_eV_per_A, rtol=1e-3, atol=1e-3)):
        raise CalculatorError(f"mace: {given.name} predicts otherwise when it is rebuilt; it can't be fine-tuned.")
