"""label: pseudo-labels for the selected frames, by the recipe's policy, and what is retained of the old pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.backends import registry
from ipip_ext.backends.committee import CommitteePotential, frame_spread
from ipip_ext.data import frames as fr
from ipip_ext.data.weights import counted
from ipip_ext.potentials.base import Potential
from ipip_ext.run.stage import Context
from ipip_ext.stages.inputs import Labellers, Labelling
from ipip_ext.stages.labelling import label_all
from ipip_ext.teachers import entries
from ipip_ext.teachers.correction.fitted import TeacherCorrection
from ipip_ext.teachers.correction.potential import CorrectedPotential


def label(ctx: Context, *, wanted: Labelling, labellers: Labellers, frames: Path, old: Path) -> dict[str, Any]:
    """Label the selected frames by the policy, and add the share of the old pool that is retained."""
    labeller = Labeller(ctx, labellers)
    chosen = fr.read_frames(frames)
    fresh = labeller.policy(wanted.policy)(chosen)
    pool = fr.read_frames(old)
    share = wanted.retain if fresh else 1.0  # with nothing new, dropping the old would leave nothing
    drawn = sorted(np.random.default_rng(ctx.seed).permutation(len(pool))[: round(share * len(pool))])
    kept = [pool[i] for i in drawn]
    if wanted.relabel:
        kept = labeller.policy(wanted.policy)(kept)
    fr.write_frames(ctx.folder / "pool.extxyz", [*fresh, *kept])
    again = f", labelled anew ({_told(kept)})" if wanted.relabel else ""
    ctx.note(f"new frames in the pool: {_told(fresh)}; {len(kept)} of {len(pool)} old ones retained{again}")
    return {
        "frames": ctx.folder / "pool.extxyz",
        "n_new": len(fresh),
        "n_retained": len(kept),
        "n_failed": len(chosen) - len(fresh),
        "n_by_source": dict(_by_source(fresh)),
    }


def _by_source(frames: Sequence[Atoms]) -> Counter[str]:
    return Counter(str(frame.info[fr.SOURCE]) for frame in frames)


def _told(frames: Sequence[Atoms]) -> str:
    return ", ".join(f"{count} by {source}" for source, count in _by_source(frames).items()) or "none"


@dataclass
class Labeller:
    """The policies. Each takes frames and returns those that could be labelled, with their source."""

    ctx: Context
    of: Labellers

    def policy(self, name: str) -> Callable[[Sequence[Atoms]], list[Atoms]]:
        """Return the labelling of a recipe's `label.policy`."""
        return {
            "teacher": self.by_teacher,
            "self": self.by_student,
            "committee": self.by_committee,
            "cross": self.across,
        }[name]

    def by_teacher(self, frames: Sequence[Atoms]) -> list[Atoms]:
        """Label by the foundation model."""
        if not frames:  # loading it may take long
            return []
        potential = self._teacher()
        return label_all(self.ctx, frames, potential, f"teacher:{potential.name}")

    def by_student(self, frames: Sequence[Atoms]) -> list[Atoms]:
        """Label by the student just fine-tuned."""
        engine = registry.backend(self.of.student.backend)
        potential = engine.potential(engine.load(self.of.student.model), self.ctx.device)
        return label_all(self.ctx, frames, potential, f"self:{self._at()}")

    def by_committee(self, frames: Sequence[Atoms]) -> list[Atoms]:
        """Label by the mean of the committee."""
        return label_all(self.ctx, frames, self._committee(), f"committee:{self._at()}")

    def across(self, frames: Sequence[Atoms]) -> list[Atoms]:
        """Label by the committee where its expected error is below the teacher's on validation, else by the teacher.

        The expected error is the committee's spread times what validation showed an error to be per spread,
        so the threshold is no number that anyone has to choose.
        """
        assert self.of.committee is not None
        limit = self._teacher_error()
        opinions = self._committee().opinions(frames)
        expected = np.array([frame_spread(opinion) for opinion in opinions]) * self.of.committee.error_per_spread
        sure = [frame for frame, error in zip(frames, expected, strict=True) if error < limit]
        unsure = [frame for frame, error in zip(frames, expected, strict=True) if error >= limit]
        self.ctx.note(
            f"the committee's expected error is below the teacher's {limit * 1e3:.0f} meV/A"
            f" on {len(sure)} of {len(frames)} frames"
        )
        return [*self.by_committee(sure), *self.by_teacher(unsure)]

    def _teacher(self) -> Potential:
        potential = entries.make(self.of.teacher, device=self.ctx.device, root=self.ctx.home)
        if self.of.correction is None:
            return potential
        return CorrectedPotential(potential, TeacherCorrection.read(self.of.correction))

    def _committee(self) -> CommitteePotential:
        assert self.of.committee is not None
        return CommitteePotential.load(self.of.committee.members, self.of.student.backend, self.ctx.device)

    def _teacher_error(self) -> float:
        """Return the RMS error of the teacher's force components on validation frames, eV/Angstrom."""
        frames = counted(fr.read_frames(self.of.valid), "forces")
        said = self._teacher().compute(frames)
        errors = [p.forces_eV_per_A - f.arrays[fr.FORCES] for p, f in zip(said, frames, strict=True)]
        return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))

    def _at(self) -> str:
        return self.ctx.name.split("/", maxsplit=1)[0]
