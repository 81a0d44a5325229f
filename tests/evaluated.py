"""What `evaluate` leaves, made from predictions that a test makes up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.data.tables import write_csv
from ipip_ext.potentials.base import Prediction
from ipip_ext.report.shown import Scored


def evaluated(folder: Path, frames: list, said: list[Prediction]) -> Scored:
    """Write what `evaluate` writes of it."""
    folder.mkdir(parents=True)
    rows = [
        {
            "frame_id": f.info[fr.ID], "split": "test", "n_atoms": len(f), "reference_energy_eV": f.info[fr.ENERGY],
            "predicted_energy_eV": p.energy_eV, **metrics.errors([f], [p]),
        }
        for f, p in zip(frames, said, strict=True)
    ]  # fmt: skip
    write_csv(folder / "per_frame.csv", rows)
    residuals = metrics.Residuals.of(frames, said)
    np.savez(
        folder / "forces.npz", predicted=residuals.predicted_eV_per_A, reference=residuals.reference_eV_per_A
    )  # fmt: skip
    return Scored(folder / "per_frame.csv", folder / "forces.npz")
