"""What a run does last, done once in little beforehand, so that it can't fail after hours for what is known now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ipip_ext import md
from ipip_ext.backends import registry
from ipip_ext.data import frames as fr
from ipip_ext.data.dataset import Dataset
from ipip_ext.errors import DataError, DeviceLost, RecipeError, UserError
from ipip_ext.md.replicas import start_name
from ipip_ext.measure import structure_functions as sf
from ipip_ext.potentials.base import Potential
from ipip_ext.potentials.compute import words
from ipip_ext.recipe.evaluate import Properties
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.report.html import structures
from ipip_ext.stages.properties import as_nve
from ipip_ext.stages.speed_cells import main_size, sizes, start_of
from ipip_ext.stages.stability import as_md


def rehearse(recipe: Recipe, data: Dataset, teacher: Potential) -> None:
    """Time, walk, strain and draw once. Raises a UserError that names what will not work, and where it is asked for.

    An untrained student stands for all that are trained. Of the teacher one evaluation is asked for, and only if it
    will be timed: it may be slow.
    """
    backend = registry.backend(recipe.backend)
    student = backend.potential(backend.build(recipe.student, data.e0s_eV, data.train, seed=0), recipe.device)
    _time(recipe, data, student, teacher)
    if recipe.evaluate.stability is not None:
        walk = as_md(recipe.evaluate.stability, recipe.explore.starts, recipe.explore.max_batch_replicas)
        with _tried(f"{walk.starts}", "MD of evaluate.stability"):
            md.plan_replicas(fr.read_structures(walk.starts), walk, seed=0, prefix="")
    if recipe.evaluate.properties is not None:
        _measure(recipe, recipe.evaluate.properties, student)
    for split, frames in data.tests.items():
        _draw(recipe.data.tests[split], frames)
    _draw(recipe.explore.starts, data.starts)


def _time(recipe: Recipe, data: Dataset, student: Potential, teacher: Potential) -> None:
    settings = recipe.evaluate
    start = start_of(data.starts, settings)
    largest, main = start.repeat(sizes(start, settings)[-1]), start.repeat(main_size(start, settings))
    where = f"{recipe.file}: evaluate.speed_supercell"
    with _tried(where, f"an MD step of {_said(largest)} by the student", RecipeError):
        largest.calc = student.calculator()
        md.stepper(largest)()
    if any(baseline.kind == "teacher" for baseline in recipe.baselines):
        with _tried(where, f"forces on {_said(main)} by the teacher", RecipeError):
            main.calc = teacher.calculator()
            main.get_forces()


def _measure(recipe: Recipe, wanted: Properties, student: Potential) -> None:
    walk = as_nve(wanted, recipe.explore.starts, recipe.explore.max_batch_replicas)
    starts = fr.read_structures(walk.starts)
    for index, start in enumerate(starts):
        with _tried(f"{walk.starts}: start {start_name(start, index)}", "a measurement of evaluate.properties"):
            if any(sf.strained_directions(start)):
                student.compute([sf.strain(start, by) for by in (min(wanted.strains), max(wanted.strains))])
            sf.rdf([start], wanted.rdf_max_A)
    with _tried(f"{walk.starts}", "MD of evaluate.properties"):
        md.plan_replicas(starts, walk, seed=0, prefix="")


def _draw(path: Path, frames: Sequence[Atoms]) -> None:
    """Draw a frame of each kind of periodicity."""
    first = {tuple(frame.pbc): (index, frame) for index, frame in reversed(list(enumerate(frames)))}
    for index, frame in first.values():
        with _tried(f"{path}: frame {index}", "its picture in the report"):
            structures.draw(structures.Worst(frame, np.zeros(len(frame)), {}, 0.0))


def _said(atoms: Atoms) -> str:
    return f"{atoms.get_chemical_formula()} ({len(atoms)} atoms)"


@contextlib.contextmanager
def _tried(where: str, what: str, kind: type[UserError] = DataError) -> Iterator[None]:
    """Tell where something failed that the run would fail at in the end; errors of the user stay what they are."""
    try:
        yield
    except (UserError, DeviceLost):
        raise
    except Exception as error:
        raise kind(
            f"{where}: {what} fails, which the run would need when all else is done ({words(error)}); mend it, or ask"
            " for another."
        ) from error
