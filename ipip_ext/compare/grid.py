"""A grid: every variant of a recipe with every seed, admitted before one of them is run."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipip_ext import admission
from ipip_ext.check import preflight
from ipip_ext.compare.ablate_report import PLAN
from ipip_ext.compare.vary import as_number, parse_vary
from ipip_ext.errors import RecipeError, WorkspaceError
from ipip_ext.recipe.file import load_recipe
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import layout, lock

MARK = "# seeds "
"""What a plan begins with."""

_LONGEST_SLUG = 120
_MOST_SEEDS, _MOST_RUNS = 1000, 10_000


@dataclass(frozen=True)
class Variant:
    """One point of the grid. slug: its name and folder. values: what is varied. recipe: with the first seed."""

    slug: str
    values: Mapping[str, str]
    recipe: Recipe


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: Variant
    recipe: Recipe
    folder: Path

    @property
    def is_finished(self) -> bool:
        """Whether its comparison stands."""
        return (self.folder / layout.TABLE).is_file()


@dataclass(frozen=True)
class Grid:
    """Every variant with every seed, in `folder`."""

    recipe: Recipe
    folder: Path
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]

    def runs(self) -> Iterator[Run]:
        """Yield all runs, seed by seed, so that what is finished early can be compared in pairs."""
        for seed, variant in itertools.product(self.seeds, self.variants):
            recipe = variant.recipe.model_copy(update={"seed": seed})
            yield Run(variant, recipe, self.folder / variant.slug / f"seed-{seed}")


def plan(
    path: Path, vary: Sequence[str], *, sets: Sequence[str] = (), n_seeds: int = 3, folder: Path | None = None,
    before: Callable[[Sequence[Recipe]], None] | None = None,
) -> Grid:  # fmt: skip
    """Return the grid of the recipe at `path`, with every run verified; writes nothing.

    vary: `key=a,b,c` strings, the values read as YAML. sets: `key=value` strings for all variants.
    before: called with the variants' recipes before anything that they name is loaded.
    Raises UserError for whatever would stop one of the runs before its first stage.
    """
    base = load_recipe(path, sets)
    varied = parse_vary(vary, base)
    refuse_too_many(varied, n_seeds)
    points = [dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())]
    variants = []
    for point, slug in zip(points, _slugs(points), strict=True):
        recipe = load_recipe(path, sets, {key: as_number(value) for key, value in point.items()})
        variants.append(Variant(slug, {key: _plain(value) for key, value in point.items()}, recipe))
    seen: dict[str, Variant] = {}
    for variant in variants:
        if (other := seen.setdefault(variant.recipe.model_dump_json(), variant)) is not variant:
            raise RecipeError(f"--vary: {other.slug} and {variant.slug} are the same recipe; take one of them out.")
    if before is not None:
        before([variant.recipe for variant in variants])
    folder = folder or Path("runs") / f"{base.name}-ablate"
    grid = Grid(base, folder, tuple(variants), tuple(range(base.seed, base.seed + n_seeds)))
    _refuse_foreign(base, folder)
    check = Checks()
    for one_run in grid.runs():
        admission.admit(one_run.recipe, one_run.folder, check=check)
    return grid


def refuse_too_many(varied: Mapping[str, Sequence[Any]], n_seeds: int) -> None:
    """Raise RecipeError for a grid that nobody could run, before there is one."""
    if not 1 <= n_seeds <= _MOST_SEEDS:
        raise RecipeError(f"--seeds {n_seeds}: must be 1 to {_MOST_SEEDS}.")
    n_runs = math.prod(map(len, varied.values())) * n_seeds
    if n_runs > _MOST_RUNS:
        raise RecipeError(f"--vary: would be {n_runs} runs, more than {_MOST_RUNS}; take fewer values, or fewer seeds.")


class Checks:
    """What preflight checks, once for all runs that share what it looks at."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, recipe: Recipe) -> None:
        """Raise a UserError for anything wrong with recipe, data or teacher."""
        task = recipe.data.model_dump(mode="json")
        starts = [str(walk.starts) for walk in (recipe.explore, recipe.sample) if walk is not None]
        frames = json.dumps([task, starts, recipe.evaluate.model_dump(mode="json"), recipe.seed])
        teacher = json.dumps([task | {"n_train": None, "n_labels": None}, recipe.teacher, recipe.device])
        if teacher not in self._seen:
            preflight.check(recipe)
        else:
            preflight.check_names(recipe)
            if frames not in self._seen:
                preflight.check_data(recipe)
        self._seen |= {frames, teacher}


def _refuse_foreign(recipe: Recipe, folder: Path) -> None:
    admission.refuse_home(recipe, folder)
    if folder.exists() and not folder.is_dir():
        raise WorkspaceError(f"{folder}: is a file; name a folder with --workdir.")
    if folder.exists():
        lock.refuse_if_held(folder)
    if not admission.is_untouched(folder) and not _is_grid(folder):
        raise WorkspaceError(f"{folder}: is not empty and holds no {PLAN}; name another folder with --workdir.")


def _is_grid(folder: Path) -> bool:
    """Return whether `folder` holds a plan, and one that we wrote."""
    plan = folder / PLAN
    return plan.is_file() and (layout.is_run(folder) or plan.read_bytes().startswith(MARK.encode()))


def _slugs(points: Sequence[Mapping[str, Any]]) -> list[str]:
    plain = [",".join(f"{key}={_plain(value)}" for key, value in point.items()) for point in points]
    alike = Counter(plain)
    marks = [hashlib.sha256(repr(point).encode()).hexdigest()[:8] for point in points]
    return [
        slug if alike[slug] == 1 and len(slug) <= _LONGEST_SLUG else f"{slug[:_LONGEST_SLUG]}-{mark}"
        for slug, mark in zip(plain, marks, strict=True)
    ]


def _plain(value: Any) -> str:
    """Return a value as it may stand in the name of a folder."""
    if isinstance(value, list):
        return "+".join(map(_plain, value)) or "none"
    if isinstance(value, Mapping):
        return "+".join(f"{key}-{_plain(inner)}" for key, inner in value.items()) or "none"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII)
