"""label: pseudo-labels for the selected frames, by the recipe's policy, and what is retained of the old pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.backends import registry
from ipip_ext.backends.committee import CommitteePotential, frame_spread
from ipip_ext.data import frames as fr
from ipip_ext.potentials.base import Potential
from ipip_ext.run.workspace import Context
from ipip_ext.stages.labelling import label_all
from ipip_ext.teachers import entries
from ipip_ext.teachers.correction import CorrectedPotential, TeacherCorrection


def label(
    ctx: Context, *, policy: str, retain: float, frames: Path, old: Path, model: Path, backend: str, teacher: Any,
    committee: Mapping[str, Any] | None, valid: Path, correction: Path | None = None, relabel: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Label the selected frames by the policy, and add the share of the old pool that is retained.

    committee: {"members": folder, "error_per_spread": number} where the policy asks one.
    correction: of all that the teacher says. relabel: what is retained by the policy too.
    """
    labeller = Labeller(ctx, model, backend, teacher, committee, valid, correction)
    chosen = fr.read_frames(frames)
    fresh = labeller.policy(policy)(chosen)
    pool = fr.read_frames(old)
    share = retain if fresh else 1.0  # with nothing new, dropping the old would leave nothing
    drawn = sorted(np.random.default_rng(ctx.seed).permutation(len(pool))[: round(share * len(pool))])
    kept = [pool[i] for i in drawn]
    if relabel:
        kept = labeller.policy(policy)(kept)
    fr.write_frames(ctx.folder / "pool.extxyz", [*fresh, *kept])
    again = f", labelled anew ({_told(kept)})" if relabel else ""
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
    model: Path
    backend: str
    teacher: Any
    committee: Mapping[str, Any] | None
    valid: Path
    correction: Path | None = None

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
        engine = registry.backend(self.backend)
        return label_all(
            self.ctx, frames, engine.potential(engine.load(self.model), self.ctx.device), f"self:{self._at()}"
        )

    def by_committee(self, frames: Sequence[Atoms]) -> list[Atoms]:
        """Label by the mean of the committee."""
        return label_all(self.ctx, frames, self._committee(), f"committee:{self._at()}")

    def across(self, frames: Sequence[Atoms]) -> list[Atoms]:
        """Label by the committee where its expected error is below the teacher's on validation, else by the teacher.

        The expected error is the committee's spread times what validation showed an error to be per spread,
        so the threshold is no number that anyone has to choose.
        """
        assert self.committee is not None
        limit = self._teacher_error()
        opinions = self._committee().opinions(frames)
        expected = np.array([frame_spread(opinion) for opinion in opinions]) * self.committee["error_per_spread"]
        sure = [frame for frame, error in zip(frames, expected, strict=True) if error < limit]
        unsure = [frame for frame, error in zip(frames, expected, strict=True) if error >= limit]
        self.ctx.note(
            f"the committee's expected error is below the teacher's {limit * 1e3:.0f} meV/A"
            f" on {len(sure)} of {len(frames)} frames"
        )
        return [*self.by_committee(sure), *self.by_teacher(unsure)]

    def _teacher(self) -> Potential:
        potential = entries.make(self.teacher, device=self.ctx.device, root=self.ctx.home)
        if self.correction is None:
            return potential
        return CorrectedPotential(potential, TeacherCorrection.read(self.correction))

    def _committee(self) -> CommitteePotential:
        assert self.committee is not None
        return CommitteePotential.load(Path(self.committee["members"]), self.backend, self.ctx.device)

    def _teacher_error(self) -> float:
        """Return the RMS error of the teacher's force components on validation frames, eV/Angstrom."""
        frames = fr.read_frames(self.valid)
        said = self._teacher().compute(frames)
        errors = [p.forces_eV_per_A - f.arrays[fr.FORCES] for p, f in zip(said, frames, strict=True)]
        return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))

    def _at(self) -> str:
        return self.ctx.name.split("/", maxsplit=1)[0]
