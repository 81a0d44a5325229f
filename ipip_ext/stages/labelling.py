"""Labels for many frames, a batch at a time: one that can't be labelled costs itself and no other."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from ipip_ext import frames as fr
from ipip_ext.compute import compute_each
from ipip_ext.potential import Potential
from ipip_ext.workspace import Context

AT_ONCE = 32


def label_all(ctx: Context, frames: Sequence[Atoms], potential: Potential, source: str) -> list[Atoms]:
    """Return `frames` with the potential's labels; one that it can't compute is left out and told of."""
    done: list[Atoms] = []
    for start in range(0, len(frames), AT_ONCE):
        batch = frames[start : start + AT_ONCE]
        predictions, failures = compute_each(potential, batch)
        for index, why in failures.items():
            ctx.note(f"no label for frame {batch[index].info[fr.ID]}: {why}")
        pairs = enumerate(zip(batch, predictions, strict=True))
        done += [fr.labelled(frame, told, source) for index, (frame, told) in pairs if index not in failures]
        ctx.progress((start + len(batch)) / len(frames), f"{start + len(batch)}/{len(frames)}, {source}")
    return done
