"""Labels for many frames, a batch at a time: one that can't be labelled costs itself and no other."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from ipip_ext.data import frames as fr
from ipip_ext.potentials.base import Potential, Prediction
from ipip_ext.potentials.compute import compute_each
from ipip_ext.run.stage import Context

_AT_ONCE = 32


def label_all(ctx: Context, frames: Sequence[Atoms], potential: Potential, source: str) -> list[Atoms]:
    """Return copies of the frames that the potential can label, with its labels."""
    pairs = zip(*predict_all(ctx, frames, potential, source), strict=True)
    return [fr.labelled(frame, told, source) for frame, told in pairs]


def predict_all(
    ctx: Context, frames: Sequence[Atoms], potential: Potential, who: str
) -> tuple[list[Atoms], list[Prediction]]:
    """Return the frames that the potential, called `who`, can label, and its labels; the others are told of."""
    kept: list[Atoms] = []
    said: list[Prediction] = []
    for start in range(0, len(frames), _AT_ONCE):
        batch = frames[start : start + _AT_ONCE]
        predictions, failures = compute_each(potential, batch)
        for index, why in failures.items():
            ctx.note(f"{who} has no label for frame {batch[index].info[fr.ID]}: {why}")
        fine = [index for index in range(len(batch)) if index not in failures]
        kept += [batch[index] for index in fine]
        said += [predictions[index] for index in fine]
        ctx.progress((start + len(batch)) / len(frames), f"{start + len(batch)}/{len(frames)}, {who}")
    return kept, said
