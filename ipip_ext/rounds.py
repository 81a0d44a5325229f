"""What the iterations of the loop hand on: the committee's opinion, bought labels, and which iteration is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run.workspace import Done, Workspace
from ipip_ext.stages.adapt import adapt
from ipip_ext.stages.committee import ask, committee
from ipip_ext.stages.correct import correct
from ipip_ext.teachers import entries


@dataclass(frozen=True)
class Round:
    """What an iteration had and made. task: its training and validation frames. pool: its pseudo-labels."""

    at: str
    pretrained: Done
    tuned: Done
    scores: Done
    task: Mapping[str, Any]
    pool: Done


@dataclass(frozen=True)
class MendedTeacher:
    """The teacher that makes pseudo-labels: its calculator entry, and what corrects it."""

    entry: Any
    correction: Path | None = None


def mend(
    recipe: Recipe, work: Workspace, task: Mapping[str, Any], pool: Done | None, at: str = ""
) -> tuple[MendedTeacher, Done | None]:  # fmt: skip
    """Return the teacher, mended by the training frames as the recipe wants it, and `pool` with its labels."""
    teacher = entries.identity(recipe.teacher, recipe.folder)
    frames = None if pool is None else pool.frames
    if recipe.adapt is not None:
        adapted = work.do(adapt, recipe.adapt, at=at, teacher=teacher, **task, pool=frames)
        file = str(adapted.file.resolve())
        return MendedTeacher(entries.identity({adapted.kind: file})), adapted
    if recipe.corrects:
        fitted = work.do(correct, recipe.correct, at=at, teacher=teacher, train=task["train"], pool=frames)
        return MendedTeacher(teacher, fitted.correction), fitted
    return MendedTeacher(teacher), pool


def vote(recipe: Recipe, work: Workspace, r: Round) -> Done:
    """Train the committee around the student of an iteration."""
    return work.do(
        committee, recipe.finetune, at=r.at, student=recipe.student, size=recipe.committee.size,
        bootstrap=recipe.committee.bootstrap, pretrained=r.pretrained.model, tuned=r.tuned.model, **r.task,
        pool=r.pool.frames,
    )  # fmt: skip


def ask_reference(recipe: Recipe, work: Workspace, r: Round, voted: Done, new: Path, test: Path) -> Done:
    """Have the frames that teach most labelled by the reference method."""
    wanted = recipe.label.reference
    assert wanted is not None
    return work.do(
        ask, wanted.asking, at=r.at, calculator=entries.identity(wanted.calculator, recipe.folder),
        teacher=entries.identity(recipe.teacher, recipe.folder), frames=new, pool=r.pool.frames,
        members=voted.members, backend=voted.backend, **r.task, test=test,
    )  # fmt: skip


def opinion_of(voted: Done | None) -> dict[str, Any] | None:
    """Return a committee as `stages.label` takes it."""
    return None if voted is None else {"members": voted.members, "error_per_spread": voted.error_per_spread}


def still_pays(recipe: Recipe, rounds: Sequence[Round]) -> bool:
    """Whether the last iteration lowered the validation force error enough to go on."""
    if len(rounds) < 2 or recipe.min_improvement is None:
        return True
    before, now = (_valid_error(r) for r in rounds[-2:])
    return now < before * (1 - recipe.min_improvement)


def best_of(rounds: Sequence[Round]) -> int:
    """Return the iteration with the lowest force error in validation."""
    return min(range(len(rounds)), key=lambda i: _valid_error(rounds[i]))


def _valid_error(r: Round) -> float:
    return float(r.tuned.valid["force_mae_meV_per_A"])
