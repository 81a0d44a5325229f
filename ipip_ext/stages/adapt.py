"""adapt: fine-tune the teacher on the task's labels, and have it label the pool anew.

What a student learns from a pool is at most as good as the pool's labels. A foundation model that has seen the task
gives better ones than any correction of what it says (docs/results.md), and unlike a student trained on the same few
labels it keeps what it knows of the rest. Source: Gardner et al., "Distillation of atomistic foundation models across
architectures and chemical domains", arXiv:2506.10956.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ipip_ext.backends import registry
from ipip_ext.backends.base import FitData, FitResult, lr_factors
from ipip_ext.data import frames as fr
from ipip_ext.data import leakage, metrics
from ipip_ext.data.weights import counted
from ipip_ext.errors import CalculatorError, Diverged, StageFailed
from ipip_ext.recipe.training import Adapt
from ipip_ext.run.stage import Context
from ipip_ext.stages.fitting import FOLDER, at_work, clear, job_of
from ipip_ext.stages.inputs import Entry, Task
from ipip_ext.stages.labelling import label_all, predict_all
from ipip_ext.stages.train import adopt
from ipip_ext.teachers import entries


def adapt(
    ctx: Context, settings: Adapt, *, teacher: Entry, task: Task, pool: Path | None
) -> dict[str, Any]:  # fmt: skip
    """Fine-tune the teacher; leave it as a file, the kind of calculator that reads this, and the pool labelled anew.

    teacher: an entry of a kind that can be trained (`check_settings`). pool: None if there is none to label.
    """
    data = FitData(fr.read_frames(task.train), fr.read_frames(task.valid))
    leakage.refuse(ctx.name, data.train, leakage.held_out(ctx.root))
    kind, before = entries.parse(teacher).kind, _valid_error(ctx, teacher, data)
    try:
        result = _TUNERS[kind](ctx, settings, teacher, data)
    except Diverged as error:
        raise Diverged(f"{ctx.name}: {error.what}", error.best) from error
    after = result.valid["force_mae_meV_per_A"]
    ctx.metric("teacher_valid_force_mae_before_meV_per_A", before)
    ctx.metric("teacher_valid_force_mae_meV_per_A", after)
    ctx.note(f"the teacher's validation force error is {after:.0f} meV/A, as it comes {before:.0f}")
    if after >= before:
        ctx.note("fine-tuning made the teacher no better; take a smaller adapt.lr, or leave adapt out")
    labels = {} if pool is None else {"frames": _label(ctx, {kind: str(_file(ctx))}, pool)}
    clear(ctx.folder)
    return {
        **labels, "file": _file(ctx), "kind": kind,
        "valid": dict(result.valid), "valid_before_force_mae_meV_per_A": before, "n_train": len(data.train),
        "best_epoch": result.best_epoch, "epochs": result.epochs, "steps": result.steps,
    }  # fmt: skip


def check_settings(teacher: str | Mapping[str, Any], settings: Adapt) -> None:
    """Raise CalculatorError for a teacher that has no weights to train, RecipeError for groups that it has not."""
    kind = entries.parse(teacher).kind
    if kind not in _TUNERS:
        raise CalculatorError(
            f"{entries.describe(teacher)} can't be fine-tuned, chgnet and {{mace: ...}} can; leave adapt out, and"
            " correct mends what this teacher says."
        )
    if not (settings.freeze or settings.lr_factors):
        return
    if kind == "chgnet":
        from ipip_ext.teachers.chgnet.tuning import GROUPS

        names: Iterable[str] = GROUPS
    else:
        names = registry.backend(kind).group_names
    lr_factors({name: (name,) for name in names}, settings)


def _file(ctx: Context) -> Path:
    return ctx.folder / "adapted.model"


def _label(ctx: Context, adapted: Mapping[str, str], pool: Path) -> Path:
    potential = entries.make(adapted, device=ctx.device)
    path = ctx.folder / "pool.extxyz"
    fr.write_frames(path, label_all(ctx, fr.read_frames(pool), potential, f"teacher:{potential.name}"))
    return path


def _valid_error(ctx: Context, teacher: Any, data: FitData) -> float:
    """Return the force MAE of the teacher as it comes on the validation frames that it can label, meV/Angstrom."""
    potential = entries.make(teacher, device=ctx.device, root=ctx.home)
    frames, said = predict_all(ctx, counted(data.valid, "forces"), potential, potential.name)
    if not frames:
        raise StageFailed(f"{ctx.name}: {potential.name} can label no validation frame; take another teacher.")
    errors = metrics.errors(frames, said)
    return float(errors["force_mae_meV_per_A"])


def _tune_chgnet(ctx: Context, settings: Adapt, teacher: Any, data: FitData) -> FitResult:
    from ipip_ext.teachers.chgnet import tuning

    potential = entries.make(teacher, device=ctx.device, root=ctx.home)
    result = tuning.tune(potential, data, settings, at_work(job_of(ctx)))  # type: ignore[arg-type]
    tuning.save(result.model, _file(ctx))
    return result


def _tune_mace(ctx: Context, settings: Adapt, teacher: Mapping[str, str], data: FitData) -> FitResult:
    backend, start = adopt(teacher, ctx.home, fr.elements(data.train))
    start = backend.align_energies(start, data.train, ctx.device)
    result = backend.fit(start, data, settings, at_work(job_of(ctx)))
    native = backend.export(result.model, ctx.folder / FOLDER)
    os.replace(native, _file(ctx))
    return result


_TUNERS: Mapping[str, Callable[[Context, Adapt, Any, FitData], FitResult]] = {
    "chgnet": _tune_chgnet, "mace": _tune_mace,
}  # fmt: skip
"""Kind of a calculator entry -> how it is trained."""
