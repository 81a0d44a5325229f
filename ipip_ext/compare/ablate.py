"""Ablation: one recipe with some keys varied, over seeds. What runs share is computed once."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ipip_ext import runner
from ipip_ext.check import preflight
from ipip_ext.compare import ablate_report
from ipip_ext.compare.ablate_report import PLAN
from ipip_ext.errors import IpipError, RecipeError, WorkspaceError
from ipip_ext.recipe.file import dump_recipe, load_recipe
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import layout, lock
from ipip_ext.run.console import LogFile, duration
from ipip_ext.run.events import Event, EventBus, JsonLines
from ipip_ext.tracking.mirror import MlflowMirror

_NOT_DECISIVE = "variants would share their results, which are not known by it; set it for all with --set."
_FIXED = {
    "name": "all variants stand in the folder of one name; set it with --set.",
    "seed": "all variants run with the same seeds; say how many with --seeds.",
    "device": _NOT_DECISIVE, "threads": _NOT_DECISIVE, "parallel": _NOT_DECISIVE, "tracking": _NOT_DECISIVE,
}  # fmt: skip
_LONGEST_SLUG = 120
_MARK = "# seeds "
"""What a plan begins with."""


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
    points = [dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())]
    variants = []
    for point, slug in zip(points, _slugs(points), strict=True):
        recipe = load_recipe(path, [*sets, *(f"{key}={_yaml(value)}" for key, value in point.items())])
        variants.append(Variant(slug, {key: _plain(value) for key, value in point.items()}, recipe))
    for one, other in itertools.combinations(variants, 2):
        if one.recipe == other.recipe:
            raise RecipeError(f"--vary: {one.slug} and {other.slug} are the same recipe; take one of them out.")
    if before is not None:
        before([variant.recipe for variant in variants])
    folder = folder or Path("runs") / f"{base.name}-ablate"
    grid = Grid(base, folder, tuple(variants), tuple(range(base.seed, base.seed + n_seeds)))
    _refuse_foreign(base, folder)
    check = _Checks()
    for one_run in grid.runs():
        runner.admit(one_run.recipe, one_run.folder, check=check)
    return grid


def parse_vary(texts: Sequence[str], recipe: Recipe) -> dict[str, list[Any]]:
    """Return the values of each key. For keys that hold a list, `none` is the empty one and `a+b` is [a, b].

    Raises RecipeError for what can't be read and for keys that can't be varied.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        if not key or not values.strip():
            raise RecipeError(f"--vary {text}: must read key=a,b,c, such as finetune.lr=0.003,0.01.")
        if why := _FIXED.get(key.split(".")[0]):
            raise RecipeError(f"--vary {text}: can't be varied: {why}")
        if key in found:
            raise RecipeError(f"--vary {text}: {key} is varied twice; give all its values at once.")
        try:
            read = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            raise RecipeError(f"--vary {text}: {values!r} are not YAML values; separate them by commas.") from None
        holds_list = isinstance(_look_up(recipe.model_dump(mode="json"), key), list)
        found[key] = [_as_list(value) if holds_list else value for value in read]
    if not found:
        raise RecipeError("ablate: nothing is varied; say --vary key=a,b,c, such as finetune.lr=0.003,0.01.")
    return found


def run(grid: Grid, say: Callable[[str], None]) -> Path:
    """Run what is not finished yet, and return the table of all. say: takes a line of progress.

    Raises what a run raises, with the variant named; the same grid goes on from there. Raises WorkspaceError if
    another process is at work on the grid.
    """
    try:
        grid.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"{grid.folder}: can't be written ({error.strerror}); use --workdir.") from None
    with lock.held(grid.folder):
        return _run(grid, say)


def _run(grid: Grid, say: Callable[[str], None]) -> Path:
    try:
        (grid.folder / PLAN).write_text(_described(grid), encoding="utf-8")
    except OSError as error:
        raise WorkspaceError(f"{grid.folder}: can't be written ({error.strerror}); use --workdir.") from None
    bus = EventBus([JsonLines(grid.folder / layout.EVENTS), LogFile(grid.folder / layout.LOG)])
    mirror = MlflowMirror(grid.folder, grid.recipe.tracking, grid.recipe.name)
    if grid.recipe.tracking.enabled:
        bus.sinks.append(mirror)
    bus.sinks.append(lambda event: say(event.name) if event.kind == "note" else None)
    keys = grid.variants[0].values
    varied = {f"vary.{key}": ", ".join(dict.fromkeys(v.values[key] for v in grid.variants)) for key in keys}
    params = {"name": grid.recipe.name, "seeds": ", ".join(map(str, grid.seeds)), **varied}
    tags = {"role": "ablation", "ipip.grid": grid.recipe.name, "mlflow.runName": f"{grid.recipe.name} ablate"}
    bus.emit(Event("run", "started", data={"recipe": params, "tags": tags}))
    try:
        _run_all(grid, bus, mirror)
    except BaseException as error:
        bus.emit(Event("run", "stopped", f"{type(error).__name__}: {error}"[:500]))
        raise
    outcomes = [ablate_report.read(r.variant.slug, r.variant.values, r.recipe.seed, r.folder) for r in grid.runs()]
    files, metrics = ablate_report.write(grid.folder, outcomes)
    for key, value in metrics.items():
        bus.emit(Event("metric", key, value))
    for file in (*files, grid.folder / PLAN):
        bus.emit(Event("artifact", file.name, file.name))
    bus.emit(Event("run", "finished"))
    return grid.folder / ablate_report.TABLE


def _run_all(grid: Grid, bus: EventBus, mirror: MlflowMirror) -> None:
    runs = list(grid.runs())
    seeds = ", ".join(map(str, grid.seeds))
    bus.emit(Event("note", f"{len(runs)} runs in {grid.folder}: {len(grid.variants)} variants, seeds {seeds}"))
    check, took = _Checks(), dict[int, float]()
    for index, one in enumerate(runs):
        was_finished, start = one.is_finished, time.monotonic()
        siblings = tuple(other.folder for other in runs if other.recipe.seed == one.recipe.seed)
        try:
            runner.run(one.recipe, one.folder, quiet=True, check=check, siblings=siblings,
                       tags=_tags(grid, one, mirror))  # fmt: skip
        except IpipError as error:
            raise type(error)(f"{one.variant.slug}, seed {one.recipe.seed}: {error}") from error
        if not was_finished:
            took[index] = time.monotonic() - start
        ahead = [i for i in range(index + 1, len(runs)) if not runs[i].is_finished]
        left = f"; about {duration(_left(took, ahead, len(grid.variants)))} to go" if ahead else ""
        how = "was finished" if was_finished else f"done in {duration(took[index])}"
        where = f"[{index + 1}/{len(runs)}] {one.variant.slug}, seed {one.recipe.seed}"
        bus.emit(Event("note", f"{where}: {how}{left}"))


def _left(took: Mapping[int, float], ahead: Sequence[int], n_variants: int) -> float:
    """Return the seconds that the runs `ahead` will take.

    A run takes as long as the same variant did with other seeds: the first of a seed computes what others share.
    """
    some = [seconds for index, seconds in took.items() if index % n_variants] or list(took.values()) or [0.0]

    def guess(index: int) -> float:
        same = [seconds for done, seconds in took.items() if done % n_variants == index % n_variants] or some
        return sum(same) / len(same)

    return sum(map(guess, ahead))


def _tags(grid: Grid, one: Run, mirror: MlflowMirror) -> dict[str, str]:
    tags = {
        "ipip.grid": grid.recipe.name,
        "ipip.variant": one.variant.slug,
        "ipip.seed": str(one.recipe.seed),
        "mlflow.runName": f"{grid.recipe.name} {one.variant.slug} seed {one.recipe.seed}",
    }
    return tags | ({"mlflow.parentRunId": mirror.run_id} if mirror.run_id else {})


class _Checks:
    """What preflight checks, once for all runs that share what it looks at."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, recipe: Recipe) -> None:
        """Raise a UserError for anything wrong with recipe, data or teacher."""
        task = recipe.data.model_dump(mode="json")
        starts = [str(walk.starts) for walk in (recipe.explore, recipe.sample) if walk is not None]
        frames = json.dumps([task, starts, recipe.evaluate.model_dump(mode="json"), recipe.seed])
        teacher = json.dumps([task | {"n_train": None}, recipe.teacher, recipe.device])
        if teacher not in self._seen:
            preflight.check(recipe)
        else:
            preflight.check_names(recipe)
            if frames not in self._seen:
                preflight.check_data(recipe)
        self._seen |= {frames, teacher}


def _refuse_foreign(recipe: Recipe, folder: Path) -> None:
    runner.refuse_home(recipe, folder)
    if folder.exists() and not folder.is_dir():
        raise WorkspaceError(f"{folder}: is a file; name a folder with --workdir.")
    if folder.exists():
        lock.refuse_if_held(folder)
    if not runner.is_untouched(folder) and not _is_grid(folder):
        raise WorkspaceError(f"{folder}: is not empty and holds no {PLAN}; name another folder with --workdir.")


def _is_grid(folder: Path) -> bool:
    """Return whether `folder` holds a plan, and one that we wrote."""
    plan = folder / PLAN
    return plan.is_file() and (layout.is_run(folder) or plan.read_bytes().startswith(_MARK.encode()))


def _described(grid: Grid) -> str:
    """Return the recipe that is varied, with what is varied as comments above it."""
    seeds = ", ".join(map(str, grid.seeds))
    return "\n".join([f"{_MARK}{seeds}", *(f"# {v.slug}" for v in grid.variants), dump_recipe(grid.recipe)])


def _slugs(points: Sequence[Mapping[str, Any]]) -> list[str]:
    plain = [",".join(f"{key}={_plain(value)}" for key, value in point.items()) for point in points]
    marks = [hashlib.sha256(repr(point).encode()).hexdigest()[:8] for point in points]
    return [
        slug if plain.count(slug) == 1 and len(slug) <= _LONGEST_SLUG else f"{slug[:_LONGEST_SLUG]}-{mark}"
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


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [] if value == "none" else value.split("+")
    return value if isinstance(value, list | None) else [value]


def _look_up(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
