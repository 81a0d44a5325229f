"""home: how far the test frames, and those that MD has found, lie from what the finished student has learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ipip_ext.backends import registry
from ipip_ext.data import frames as fr
from ipip_ext.data.tables import write_csv
from ipip_ext.measure.home import outside, rows_of, worth
from ipip_ext.potentials.base import Array, Potential
from ipip_ext.potentials.home import HasHome
from ipip_ext.run.stage import Context
from ipip_ext.stages.evaluate import predict, splits_of
from ipip_ext.stages.inputs import Exam, Settled

POOL = "pool"
_MOST_OF_POOL = 500


def home(ctx: Context, *, student: Settled, exam: Exam, pool: Path) -> dict[str, Any]:
    """Write the home distance of each frame, and what the distances are worth; nothing is chosen by it.

    Errors are those of forces, on test frames alone: the pool's labels are no reference. Of a large pool every n-th
    frame is looked at. A run that an older version has made has no such stage.
    """
    engine = registry.backend(student.backend)
    potential = engine.potential(engine.load(student.home.parent), ctx.device)
    assert isinstance(potential, HasHome)
    frames = fr.read_frames(exam.test)
    told: dict[str, Any] = {}
    rows = []
    distances, errors = _on_test(potential, frames, exam, ctx)
    splits = splits_of(frames, exam)
    for name, picked in splits.items():
        own = [i for i in picked if np.isfinite(errors[i]).all()]  # a frame without forces has a distance alone
        told[name] = outside([distances[i] for i in picked])
        if own:
            told[name] |= worth([distances[i] for i in own], [errors[i] for i in own])
    split = {i: name for name, picked in splits.items() for i in picked}
    for index, row in enumerate(rows_of(frames, distances)):
        mae = 1e3 * errors[index].mean()
        rows.append({"set": split[index], **row, "force_mae_meV_per_A": f"{mae:.6g}" if np.isfinite(mae) else ""})
    found = fr.read_frames(pool)
    if found := found[:: max(1, -(-len(found) // _MOST_OF_POOL))]:
        distances = potential.home_distances(found)
        told[POOL] = outside(distances)
        rows += [{"set": POOL, **row, "force_mae_meV_per_A": ""} for row in rows_of(found, distances)]
    write_csv(ctx.folder / "frames.csv", [{**row, "home_distance": f"{row['home_distance']:.4f}"} for row in rows])
    (ctx.folder / "told.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    ctx.note(_sentence(told))
    return {"frames": ctx.folder / "frames.csv", "told": ctx.folder / "told.json"}


def _on_test(
    potential: Potential, frames: list[Atoms], exam: Exam, ctx: Context
) -> tuple[list[Array], list[Array]]:  # fmt: skip
    """Return home distances and absolute force errors of each test frame, eV/Angstrom; NaN where it has no forces."""
    said = predict(potential, frames, exam.batch_size, ctx)
    distances = [one.home_distances for one in said if one.home_distances is not None]
    assert len(distances) == len(frames)
    labels = map(fr.labels_where_known, frames)
    errors = [np.abs(p.forces_eV_per_A - known.forces_eV_per_A) for p, known in zip(said, labels, strict=True)]
    return distances, errors


def _sentence(told: dict[str, Any]) -> str:
    parts = [f"{one['n_frames_outside']} of {one['n_frames']} {name} frames" for name, one in told.items()]
    return f"outside of what the student has learnt: {', '.join(parts)}"
