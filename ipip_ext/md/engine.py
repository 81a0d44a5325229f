"""MD of many replicas: stacked, guarded, and exactly resumable.

What a kill costs is the time since the last commit, what a signal costs is at most a step; and what comes out
afterwards is bitwise what would have come without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ase import Atoms

from ipip_ext.data.keys import BEFORE_STOP, ID
from ipip_ext.md.checkpoint import Store, claim
from ipip_ext.md.engines import make
from ipip_ext.md.guard import Stop, Watch
from ipip_ext.md.kept import as_atoms
from ipip_ext.md.replicas import Replica
from ipip_ext.md.room import check_size
from ipip_ext.md.walk import Walk
from ipip_ext.potentials.base import Potential
from ipip_ext.recipe.walk import Explore

Progress = Callable[[int, int, str], None]

COMMIT_EVERY_S = 20.0
"""Seconds between commits: the most a kill costs. Results do not depend on it."""

TELL_EVERY_S = 1.0
"""Seconds between two words to `progress`, where a run that is asked to stop does so. After a step that takes longer
everything is committed: the next one may be cut short by a signal that can't wait."""

COMMIT_BYTES = 64_000_000
"""Frames that may wait for a commit: it comes sooner where they are many."""


@dataclass(frozen=True)
class MDResult:
    """What MD left in its folder. stops: by replica, and in the order in which they came."""

    store: Store
    settings: Explore
    stops: list[Stop]

    def __iter__(self) -> Iterator[Atoms]:
        """Yield the frames from disk, by replica and step, each with info and MD_energy, MD_forces, `as_atoms`'s."""
        before = {frame_id: stop.reason for stop in self.stops for frame_id in stop.frame_ids}
        for kept in self.store.frames():
            frame = as_atoms(kept, self.store.replicas[kept.replica], self.settings)
            reason = before.get(frame.info[ID])
            if reason is not None:
                frame.info[BEFORE_STOP] = reason
            yield frame

    @property
    def ended_early(self) -> dict[str, Stop]:
        """The stop of each replica that did not walk to its end."""
        return {stop.replica: stop for stop in self.stops if not stop.restarted}

    @cached_property
    def frames(self) -> list[Atoms]:
        """All frames at once, where there is memory for them."""
        return list(self)


def run(
    potential: Potential, replicas: Sequence[Replica], settings: Explore, folder: Path, progress: Progress,
    watch: Watch | None = None,
) -> MDResult:  # fmt: skip
    """Walk all replicas for `settings.n_steps`, keeping a frame every `frame_every` steps.

    folder: state and frames; called again after a kill it goes on from there.
    progress: given replica-steps done, of all, and a text. watch: where given, a replica is stopped at a kept frame
    that lies far from home (`potentials.home`); that frame is the last of it.
    A replica that breaks is stopped, or begins again, and is told of in `stops`; nothing it does ends the run.
    NPT takes a potential with stress: see `compute.require_stress`.
    Raises WorkspaceError if `folder` holds another plan or is broken, or if its disk has no room for the frames;
    RecipeError if they would be more than `max_trajectory_GB`, or if `settings.engine` can't be had.
    """
    check_size(replicas, settings)
    engine = make(potential, replicas, settings)
    claim(folder, replicas, settings, potential.name)
    store = Store(folder, replicas)
    walk = Walk(potential, replicas, settings, store, engine, watch)
    total = len(replicas) * max(settings.n_steps, 1)
    try:
        for text in _steps(walk):
            progress(walk.steps_done(), total, text)
    except BaseException:  # a run that is asked to stop is asked in `progress`: nothing walked is lost
        if walk.is_whole:
            walk.commit()
        raise
    return MDResult(store, settings, sorted(walk.stops, key=lambda stop: stop.replica))


def _steps(walk: Walk) -> Iterator[str]:
    """Walk to the end, yielding a line every `frame_every` steps, every `TELL_EVERY_S`, and at the end."""
    walk.resume()
    committed_s = told_s = time.monotonic()
    taken = 0
    if walk.is_finished:
        yield walk.text()
        return
    while not walk.is_finished:
        began_s = time.monotonic()
        taken += walk.go()
        now_s = time.monotonic()
        at_frames = walk.stack is None or (taken and taken % walk.settings.frame_every == 0)
        if at_frames or now_s - told_s > TELL_EVERY_S:
            yield walk.text()
            told_s = now_s
        due = now_s - committed_s > COMMIT_EVERY_S or now_s - began_s > TELL_EVERY_S
        if due or walk.store.pending_bytes > COMMIT_BYTES:
            walk.commit()
            committed_s = time.monotonic()
    walk.commit()
    yield walk.text()
