"""evaluate: any model on the frozen test set, every frame, the same numbers for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from ipip_ext.backends import registry
from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.data.tables import read_csv, write_csv
from ipip_ext.data.weights import label_weights
from ipip_ext.errors import DataError, StageFailed
from ipip_ext.measure.home import outside, rank_correlation
from ipip_ext.potentials.base import Array, FrameFailed, Potential, Prediction
from ipip_ext.recipe.data import Ood
from ipip_ext.run.stage import Context
from ipip_ext.stages.inputs import Calculator, Exam, Model
from ipip_ext.teachers import entries

ALIGNED = "energies shifted to the task's zeros by a fit for each element on the training frames"


def evaluate(
    ctx: Context, *, model: Model, exam: Exam, align: Path | None, elements: Sequence[str] | None = None
) -> dict[str, Any]:  # fmt: skip
    """Predict the test set and write predictions and errors.

    align: training frames on which to fit the energy zeros of a model that has others; None for a student.
    elements: all that the model knows; where test frames hold others, its only split is `split_for(elements)`.
    """
    potential = potential_of(model, ctx)
    every = fr.read_frames(exam.test)
    frames = every if elements is None else known(every, elements, "test")
    predictions = predict(potential, frames, exam.batch_size, ctx)
    if align is not None:
        train = fr.read_frames(align)
        train = train if elements is None else known(train, elements, "training")
        predictions = shift_to_task(potential, predictions, frames, train, exam.batch_size)
    splits = splits_of(frames, exam)
    if elements is not None and len(frames) < len(every):
        splits = {split_for(elements): list(range(len(frames)))}
        ctx.note(f"knows {' '.join(elements)} alone: {len(frames)} of {len(every)} test frames")
    found = {name: metrics.errors(*_pick(rows, frames, predictions)) for name, rows in splits.items()}
    for name, errors in found.items():
        for key, value in errors.items():
            ctx.metric(f"{name}_{key}", value)
    _write_per_frame(ctx.folder / "per_frame.csv", frames, predictions, splits)
    residuals = metrics.Residuals.of(frames, predictions)
    arrays = {"predicted": residuals.predicted_eV_per_A, "reference": residuals.reference_eV_per_A}
    if residuals.stress_eV_per_A3 is not None:
        arrays["stress_error_eV_per_A3"] = residuals.stress_eV_per_A3
    np.savez(ctx.folder / "forces.npz", **arrays)  # type: ignore[arg-type]
    return {
        "per_frame": ctx.folder / "per_frame.csv",
        "forces": ctx.folder / "forces.npz",
        "errors": found,
        "n_frames": {name: len(rows) for name, rows in splits.items()},
        "n_parameters": potential.n_parameters,
    }


def potential_of(model: Model, ctx: Context) -> Potential:
    """Return the Potential that `model` describes."""
    if isinstance(model.of, Calculator):
        return entries.make(model.of.calculator, device=ctx.device, root=ctx.home)
    backend = registry.backend(model.of.backend)
    return backend.potential(backend.load(model.of.model), ctx.device)


def predict(
    potential: Potential, frames: Sequence[Atoms], batch_size: int, ctx: Context | None = None
) -> list[Prediction]:
    """Return the potential's labels of all frames, with stress where every frame has one.

    Raises StageFailed, naming the frame, if one gets no label: an error over the others would flatter the model.
    """
    stress = all(fr.STRESS in frame.info for frame in frames)
    done: list[Prediction] = []
    for start in range(0, len(frames), batch_size):
        batch = frames[start : start + batch_size]
        try:
            said = potential.compute(batch, stress=stress)
        except FrameFailed as error:
            raise _no_label(potential, batch[error.index], error.message) from error
        if len(said) != len(batch):
            raise StageFailed(f"{potential.name}: has {len(said)} labels for {len(batch)} frames; all frames count.")
        for frame, label in zip(batch, said, strict=True):
            if not (np.isfinite(label.energy_eV) and np.isfinite(label.forces_eV_per_A).all()):
                raise _no_label(potential, frame, "energy or forces are not finite")
        done += said
        if ctx is not None:
            ctx.progress(len(done) / len(frames), f"{len(done)}/{len(frames)} frames")
    return done


def measure(
    potential: Potential, frames: Sequence[Atoms], batch_size: int
) -> tuple[dict[str, float], list[str]]:  # fmt: skip
    """Return errors on frames of which some may lack labels, and a line on each kind of label that is missing.

    Of a model that knows its home also `n_frames_outside`, and `home_rank_correlation` of distance and force error.
    """
    lacking = {
        "forces": [fr.FORCES not in frame.arrays for frame in frames],
        "energies": [fr.ENERGY not in frame.info for frame in frames],
    }
    said = predict(potential, frames, batch_size)
    distances = [one.home_distances for one in said if one.home_distances is not None]
    at_home = _from_home(frames, said, distances) if len(distances) == len(frames) else {}
    if not any(map(any, lacking.values())):
        return metrics.errors(frames, said) | at_home, []
    remarks = []
    for what, missing in lacking.items():
        other = "energies" if what == "forces" else "forces"
        if all(missing):
            remarks.append(f"no {what} in the file: {other} alone are compared")
        elif any(missing):
            remarks.append(f"{sum(missing)} of {len(frames)} frames have no {what}; they count for their {other}")
    return metrics.errors_of_what_is_labelled(frames, said) | at_home, remarks


def _from_home(
    frames: Sequence[Atoms], said: Sequence[Prediction], distances: Sequence[Array]
) -> dict[str, float]:  # fmt: skip
    """Return how many frames are outside of what the model has learnt, and whether errors grow with the distance."""
    rows = [i for i, frame in enumerate(frames) if fr.FORCES in frame.arrays]
    errors = [float(np.abs(said[i].forces_eV_per_A - frames[i].arrays[fr.FORCES]).mean()) for i in rows]
    largest = np.array([float(distances[i].max()) for i in rows])
    worth = rank_correlation(largest, np.array(errors))
    found = {"n_frames_outside": outside(distances)["n_frames_outside"]}
    return found if worth is None else found | {"home_rank_correlation": worth}


def _no_label(potential: Potential, frame: Atoms, why: str) -> StageFailed:
    return StageFailed(
        f"{potential.name}: no label for frame {frame.info.get(fr.ID, '')} ({why}); all frames count, so leave this"
        " model out or mend it."
    )


def shift_to_task(
    potential: Potential,
    predictions: Sequence[Prediction],
    frames: Sequence[Atoms],
    train: Sequence[Atoms],
    batch_size: int,
) -> list[Prediction]:
    """Return predictions with the energy of each element shifted so that training energies fit best."""
    symbols = sorted(fr.elements(train))
    on_train = predict(potential, train, batch_size)
    rest = np.array([f.info[fr.ENERGY] - p.energy_eV for f, p in zip(train, on_train, strict=True)])
    zeros = metrics.fit_zeros(fr.composition(train, symbols), rest, label_weights(train, "energy"))
    shift = fr.composition(frames, symbols) @ zeros
    return [
        Prediction(p.energy_eV + float(s), p.forces_eV_per_A, p.stress_eV_per_A3)
        for p, s in zip(predictions, shift, strict=True)
    ]


class Divided(Protocol):
    """What divides test frames: starts that training does not hold, and named sets, see `inputs.Exam`."""

    @property
    def ood(self) -> Ood | None:
        """Which frames are out of distribution."""

    @property
    def sets(self) -> Sequence[tuple[str, int]]:
        """How many frames are of each named set, in their order."""


def splits_of(frames: Sequence[Atoms], by: Divided) -> dict[str, list[int]]:
    """Return the rows of each split of all test frames: test, test_id and test_ood where the recipe names starts, and
    those of its named sets.
    """
    splits = {"test": list(range(len(frames)))}
    if by.ood is not None:
        for name in ("test_id", "test_ood"):
            rows = [i for i, frame in enumerate(frames) if fr.split_of(frame, by.ood.key, by.ood.values) == name]
            if rows:
                splits[name] = rows
    end = 0
    for name, count in by.sets:
        splits[name] = list(range(end, end + count))
        end += count
    return splits


def split_for(elements: Sequence[str]) -> str:
    """Return the name of the split of test frames that hold these elements alone."""
    return "_".join(["test", *sorted(elements)])


def known(frames: Sequence[Atoms], elements: Sequence[str], what: str) -> list[Atoms]:
    """Return the frames that hold `elements` alone. Raises DataError if there is none; what: of which frames."""
    found = [frame for frame in frames if fr.elements([frame]) <= set(elements)]
    if not found:
        raise DataError(
            f"none of the {what} frames holds {' '.join(elements)} alone, so there is nothing to measure a force field"
            " of these elements on; take another one, or leave it out."
        )
    return found


def frame_ids(per_frame: Path) -> list[str]:
    """Return the frames of a finished evaluation, in order; per_frame: its table of that name."""
    return [row["frame_id"] for row in read_csv(per_frame)]


def _pick(
    rows: Sequence[int], frames: Sequence[Atoms], predictions: Sequence[Prediction]
) -> tuple[list[Atoms], list[Prediction]]:
    return [frames[i] for i in rows], [predictions[i] for i in rows]


def _write_per_frame(
    path: Path,
    frames: Sequence[Atoms],
    predictions: Sequence[Prediction],
    splits: Mapping[str, Sequence[int]],
) -> None:
    split = {i: name for name, rows in splits.items() for i in rows}  # test comes first, so its parts count
    rows = [
        {
            "frame_id": frame.info[fr.ID],
            "split": split[index],
            "n_atoms": len(frame),
            "formula": frame.get_chemical_formula(),
            "reference_energy_eV": f"{frame.info[fr.ENERGY]:.10g}" if fr.ENERGY in frame.info else "",
            "predicted_energy_eV": f"{prediction.energy_eV:.10g}",
            **{key: f"{value:.6g}" for key, value in metrics.errors([frame], [prediction]).items()},
        }
        for index, (frame, prediction) in enumerate(zip(frames, predictions, strict=True))
    ]
    write_csv(path, rows)
