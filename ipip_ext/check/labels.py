"""Are labels what the recipe says they are? Held against the teacher's, and against what is to be trained on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.data import states
from ipip_ext.data.dataset import Dataset
from ipip_ext.data.label_comparison import Agreement, compare
from ipip_ext.data.label_summary import summary
from ipip_ext.data.weights import counted
from ipip_ext.errors import DataError, RecipeError
from ipip_ext.potentials.base import FrameFailed, Potential, Prediction
from ipip_ext.potentials.compute import compute_each
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.training import Fit

_PROBES = 12
"""Frames of each file that the teacher is asked about."""


def check(recipe: Recipe, data: Dataset, teacher: Potential) -> Dataset:
    """Return the data with what they are like and what looks wrong with their labels.

    Raises DataError for labels in another unit, of another sign or in another order than the teacher's.
    """
    told = {split: summary(frames) for split, frames in _splits(data)}
    if data.n_isolated:
        told["isolated"] = f"{data.n_isolated} atoms of train that stand by themselves are not trained on"
    if said := states.told([*data.train, *data.valid, *data.test, *data.starts]):
        told["state"] = said
    findings = list(data.findings)
    for path, split, frames in _files(recipe, data):
        agreement, found = _hold_against(path, frames, teacher)
        told[f"on {split}"] = f"teacher: {agreement}"
        findings += found
    return replace(data, findings=tuple(findings), told=told)


def check_weights(recipe: Recipe) -> None:
    """Raise RecipeError for the weight of a loss that meets no label."""
    if recipe.data.stress_key is None and recipe.data.virials_key is None:
        for key, fit in _trainings_on_labels(recipe):
            if fit.stress_weight > 0:
                raise RecipeError(
                    f"{recipe.file}: {key}.stress_weight is {fit.stress_weight:g}, but no stress is read; set"
                    " data.stress_key or data.virials_key, or leave the weight at 0."
                )
    if recipe.pretrain.stress_weight > 0 and recipe.explore.ensemble != "npt":
        raise RecipeError(
            f"{recipe.file}: pretrain.stress_weight is {recipe.pretrain.stress_weight:g}, but frames of the pool have"
            " no stress unless explore.ensemble is npt; leave the weight at 0."
        )


def _trainings_on_labels(recipe: Recipe) -> Iterator[tuple[str, Fit]]:
    yield "finetune", recipe.finetune
    if recipe.adapt is not None:
        yield "adapt", recipe.adapt
    for index, baseline in enumerate(recipe.baselines):
        if baseline.kind in ("scratch", "finetuned"):
            yield f"baselines.{index}.fit", baseline.fit


def _splits(data: Dataset) -> list[tuple[str, Sequence[Atoms]]]:
    named = {split: frames for split, frames in data.tests.items() if len(data.tests) > 1}
    return [("train", data.train), ("valid", data.valid), *(named or {"test": data.test}).items()]


def _files(recipe: Recipe, data: Dataset) -> Iterator[tuple[Path, str, Sequence[Atoms]]]:
    """Yield the files that labels are from; validation frames that train gave are as its others are."""
    task = recipe.data
    tests = [(path, split, data.tests[split]) for split, path in task.tests.items()]
    for path, split, frames in ((task.train, "train", data.train), (task.valid, "valid", data.valid), *tests):
        if path is not None:
            yield path, split, frames


def _hold_against(path: Path, frames: Sequence[Atoms], teacher: Potential) -> tuple[Agreement, list[str]]:
    frames = counted(frames, "energy", "forces")
    some = frames[:: max(1, len(frames) // _PROBES)][:_PROBES]
    try:
        said = teacher.compute(some)
    except FrameFailed as error:
        raise DataError(
            f"{path}: frame {some[error.index].info[fr.ID]}: the teacher can't label it ({error.message});"
            " take it out, or choose another teacher."
        ) from None
    if any(fr.STRESS in frame.info for frame in some):
        said = _with_stress(teacher, some, said)
    return compare(path, some, said, teacher.name)


def _with_stress(teacher: Potential, frames: Sequence[Atoms], said: Sequence[Prediction]) -> list[Prediction]:
    """Return what the teacher said with the stress of the frames that it can give one for."""
    asked, failures = compute_each(teacher, frames, stress=True)
    return [one if index in failures else asked[index] for index, one in enumerate(said)]
