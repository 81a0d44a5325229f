"""One training inside a stage, which may be tried once more, more calmly, if it diverges."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ipip_ext.backends.base import Backend, FitData, FitHooks, FitJob, FitResult, Model
from ipip_ext.errors import Diverged
from ipip_ext.recipe.training import Fit
from ipip_ext.run.stage import Context

RETRY_LR_FACTOR = 0.1
"""Share of the learning rate with which a fine-tuning that diverged is tried once more."""

FOLDER = "fit"
"""Where a training within a stage's folder works."""

_RETRY, _SECOND = "retry", "refit"


def job_of(ctx: Context) -> FitJob:
    """Return what a training inside a stage is given; it works in folders below the stage's."""
    return FitJob(ctx.seed, ctx.folder, ctx.device, FitHooks(ctx.metric, ctx.progress, ctx.note))


def at_work(job: FitJob, folder: str = FOLDER) -> FitJob:
    """Return `job` in a folder below its own."""
    return replace(job, folder=job.folder / folder)


def fit_once(
    backend: Backend, start: Model, data: FitData, settings: Fit, job: FitJob, where: str
) -> tuple[FitResult, None]:  # fmt: skip
    """Train in a folder below `job.folder`, or go on there. Raises Diverged, which names the stage `where`."""
    try:
        return backend.fit(start, data, settings, at_work(job)), None
    except Diverged as error:
        raise Diverged(f"{where}: {error.what}", error.best) from error


def fit_or_retry(
    backend: Backend, start: Model, data: FitData, settings: Fit, job: FitJob, where: str
) -> tuple[FitResult, dict[str, Any] | None]:  # fmt: skip
    """Train as `fit_once` does; if that diverges, once more from its best weights with a tenth of the learning rate.

    Returns the result, and of a retry its learning rate and reason. Raises Diverged if that one diverges as well.
    """
    retry = job.folder / _RETRY
    if not retry.exists():
        try:
            return backend.fit(start, data, settings, at_work(job)), None
        except Diverged as error:
            _prepare_retry(retry, backend, error)
    because = (retry / "because.txt").read_text(encoding="utf-8")
    calmer = settings.model_copy(update={"lr": settings.lr * RETRY_LR_FACTOR})
    job.hooks.note(f"{because}; once more from the best weights before that, with lr {calmer.lr:g}")
    try:
        result = backend.fit(backend.load(retry / "model"), data, calmer, at_work(job, _SECOND))
    except Diverged as error:
        why = f"{where}: {because}; with a tenth of lr, {calmer.lr:g}, {error.what}"
        raise Diverged(why, error.best) from error
    return result, {"lr": calmer.lr, "because": because}


def clear(folder: Path) -> None:
    """Remove what trainings in `folder` worked with; only once their model is stored."""
    for name in (FOLDER, _SECOND, _RETRY):
        shutil.rmtree(folder / name, ignore_errors=True)


def _prepare_retry(retry: Path, backend: Backend, error: Diverged) -> None:
    """Write down what a retry begins with, whole or not at all: a run that is killed later goes on with the retry."""
    part = retry.with_name(retry.name + ".part")
    backend.save(error.best, part / "model")
    (part / "because.txt").write_text(error.what, encoding="utf-8")
    os.replace(part, retry)
