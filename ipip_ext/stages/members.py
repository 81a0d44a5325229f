"""The members of a committee: fine-tuned one after another, or side by side where cores are free.

Small graphs gain more from a second process than from a second thread. A member's seed derives from its number, so its
weights are the same wherever it is trained.
"""

from __future__ import annotations

import shutil
import time
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms
from pydantic import BaseModel

from ipip_ext.backends import registry
from ipip_ext.backends.base import FitData, FitHooks, FitJob, Model
from ipip_ext.data import frames as fr
from ipip_ext.recipe.training import Finetune
from ipip_ext.run.processes import POLL_S, SideProcess, end_all
from ipip_ext.run.seeds import derive
from ipip_ext.run.stage import Context
from ipip_ext.stages.fitting import fit_or_retry

_MODULE = "ipip_ext.stages.member_process"


class Members(BaseModel):
    """What all members are made of, as it can be handed to another process.

    pretrained: the student that each begins with. bootstrap: each draws its training frames anew, with replacement.
    folder: where they go, each in a folder named by its number; they are trained beside it.
    """

    backend: str
    finetune: Finetune
    bootstrap: bool
    pretrained: Path
    train: Path
    valid: Path
    pool: Path
    folder: Path
    device: str
    threads: int
    seed: int
    where: str

    def is_trained(self, k: int) -> bool:
        """Whether member k is finished."""
        return (self.folder / str(k) / "student.json").exists()

    @cached_property
    def labelled(self) -> list[Atoms]:
        """The training frames, read once for all members that this process trains."""
        return fr.read_frames(self.train)

    @cached_property
    def held(self) -> list[Atoms]:
        """The validation frames."""
        return fr.read_frames(self.valid)

    @cached_property
    def replay(self) -> list[Atoms]:
        """The pool, where some of it is replayed."""
        return fr.read_frames(self.pool) if self.finetune.replay_fraction > 0 else []

    @cached_property
    def start(self) -> Model:
        """The pretrained student with the task's energy zeros."""
        backend = registry.backend(self.backend)
        return backend.align_energies(backend.load(self.pretrained), self.labelled, self.device)

    def train_one(self, k: int, hooks: FitHooks) -> None:
        """Train member k, or go on with it; if it diverges, once more as a fine-tuning is. Raises Diverged."""
        backend, work = registry.backend(self.backend), self.folder.parent / f"member-{k}"
        seed = derive(self.seed, "member", k)
        seen = _resample(self.labelled, seed) if self.bootstrap else self.labelled
        data = FitData(seen, self.held, self.replay, self.finetune.replay_fraction, self.finetune.replay_weight)
        job = FitJob(seed, work, self.device, hooks)
        result, _ = fit_or_retry(backend, self.start, data, self.finetune, job, f"{self.where}, member {k}")
        backend.save(result.model, self.folder / str(k))
        shutil.rmtree(work, ignore_errors=True)


def train_members(ctx: Context, members: Members, size: int) -> None:
    """Train members 1 to size - 1, as many at a time as `ctx` has processes to spare. Raises Diverged."""
    side = _SideBySide(ctx, members, size)
    try:
        while (k := side.take()) is not None:
            members.train_one(k, side.hooks(k))
            side.heard(k, 1.0, "done")
    finally:
        side.stop()


class _SideBySide:
    """Hands out members: some to other processes, the rest and whatever those leave undone to this one."""

    def __init__(self, ctx: Context, members: Members, size: int) -> None:
        self.ctx = ctx
        self.members = members
        self.share = {k: float(members.is_trained(k)) for k in range(1, size)}
        self.waiting = [k for k, share in self.share.items() if share < 1]
        self.left: list[int] = []
        self.others: dict[int, SideProcess] = {}
        self.last = "nothing is heard of any yet"
        self.folder = ctx.folder / "side-by-side"

    def take(self) -> int | None:
        """Return the member that this process shall train; None once all are trained."""
        mine = self._next()
        while self.waiting and len(self.others) < self.ctx.spare_processes:
            self._start(self.waiting.pop(0))
        while mine is None and self.others:
            time.sleep(POLL_S)
            self._listen()
            if names := ", ".join(f"member {k} in process {process.pid}" for k, process in self.others.items()):
                self._say(f"waiting for {names}; {self.last}")
            mine = self._next()
        return mine

    def hooks(self, k: int) -> FitHooks:
        """Return how member k speaks where this process trains it."""

        def progress(share: float, text: str) -> None:
            self.heard(k, share, text)
            self._listen()

        return FitHooks(progress=progress, note=lambda text: self.ctx.note(f"member {k}: {text}"))

    def heard(self, k: int, share: float, text: str) -> None:
        """Pass on how far member k is as how far all are."""
        self.share[k], self.last = share, f"member {k}: {text}"
        self._say(self.last)

    def stop(self) -> None:
        """End the other processes; what they have trained is kept."""
        end_all(self.others)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _say(self, text: str) -> None:
        self.ctx.progress(sum(self.share.values()) / len(self.share), text)

    def _next(self) -> int | None:
        return next((some.pop(0) for some in (self.left, self.waiting) if some), None)

    def _start(self, k: int) -> None:
        self.folder.mkdir(exist_ok=True)
        task = self.folder / "members.json"
        task.write_text(self.members.model_dump_json(), encoding="utf-8")
        self.others[k] = SideProcess(_MODULE, task, k)

    def _listen(self) -> None:
        """Pass on what the others have said since; what one of them has left undone is this process's to do."""
        for k, process in list(self.others.items()):
            has_ended = process.poll() is not None
            for said in process.heard():
                if "note" in said:
                    self.ctx.note(f"member {k}: {said['note']}")
                elif "share" in said:
                    self.heard(k, said["share"], said["text"])
            if not has_ended:
                continue
            del self.others[k]
            if not self.members.is_trained(k):
                self.ctx.note(f"member {k}: its process {process.fate}; this one goes on with it")
                self.left.append(k)


def _resample(frames: list[Atoms], seed: int) -> list[Atoms]:
    rows = np.random.default_rng(seed).integers(0, len(frames), len(frames))
    return [frames[i] for i in rows]
