"""Fine-tuning by MACE's own `run_train` in a process of its own: frozen blocks, LoRA, multi-head replay.

Four habits of mace-torch 0.3.16 are dealt with here: it goes on after its own early stop, so its process is ended and a
second one writes the best epoch down; it removes a checkpoint before it writes the next, so it is told to keep them
and all but two are removed here; it takes a checkpoint with NaN for the best; and it passes over one that a kill has
cut short, but would end with it.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from ipip_ext.backends.base import FitData, FitJob, Tuning
from ipip_ext.backends.checkpoint import Progress
from ipip_ext.backends.mace._mace import select_head
from ipip_ext.backends.mace.files import load_native
from ipip_ext.backends.mace.model import Student, shift_e0s
from ipip_ext.backends.mace.run_train.options import NAME, Options
from ipip_ext.data import frames as fr
from ipip_ext.data.keys import WEIGHTS
from ipip_ext.data.weights import weight_of
from ipip_ext.errors import Diverged, StageFailed
from ipip_ext.potentials.base import Prediction
from ipip_ext.potentials.cells import boxed, volume
from ipip_ext.recipe.training import Fit
from ipip_ext.run.processes import POLL_S, SideProcess
from ipip_ext.units import MEV_PER_EV

_HEAD = "Default"
_WORKER = "ipip_ext.backends.mace.run_train.worker"
_SPEAK_S = 1.0


@dataclass(frozen=True)
class Trained:
    """What came of it: the best model, with the task's head alone; how it went; optimiser steps of all attempts."""

    module: torch.nn.Module
    state: Progress
    steps: int


class RunTrain:
    """One fine-tuning of `student` in `folder`, from MACE's checkpoint if there is one.

    MACE sees energies above zeros alone, which it would else subtract in the model's dtype: those of the task, e0s_eV,
    are taken off the labels, off replayed ones the student's, and the model gets none. So all zeros are 0 in what comes
    of it. data.replay: frames that carry the student's own labels.
    """

    def __init__(
        self, student: Student, e0s_eV: Sequence[float], data: FitData, settings: Fit, tuning: Tuning, job: FitJob,
        log: Path,
    ) -> None:  # fmt: skip
        self.student, self.settings, self.hooks = student, settings, job.hooks
        self.folder, self.log, self.device = job.folder.resolve(), log, job.device
        self.results = self.folder / f"results/{NAME}_run-{job.seed}_train.txt"
        batch_size = min(settings.batch_size, len(data.train))  # it drops a smaller one, and so might all
        self.epochs = settings.most_epochs(len(data.train) // batch_size)
        self.options = Options(student.spec, settings, tuning, job, batch_size, self.epochs)
        self.state, self.losses = Progress(), list[float]()
        self.read = self.results.stat().st_size if self.results.exists() else 0
        self.started, self.first = time.monotonic(), -1
        self.said = "starting MACE's run_train"
        self._write_inputs(data, dict(zip(student.spec.atomic_numbers, e0s_eV, strict=True)))

    def run(self) -> Trained:
        """Train to the last epoch or until patience runs out; return the best model."""
        if not self._train(self.epochs):
            self.state.stopped = False
            self._train(_epoch(self._checkpoints()[-1]))  # nothing is left to train: it writes that epoch's model
        module = load_native(self.folder / f"{NAME}.model", "cpu")
        self.state.best_epoch = _epoch(self._checkpoints()[-1])
        steps = sum('"opt"' in line for line in self.results.read_text(encoding="utf-8").splitlines())
        several = len(module.heads) > 1  # type: ignore[arg-type]
        return Trained(select_head(module, _HEAD) if several else module, self.state, steps)

    def _write_inputs(self, data: FitData, e0s_eV: Mapping[int, float]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        spec = self.student.spec
        own = dict(zip(spec.atomic_numbers, spec.e0s_eV, strict=True))
        torch.save(shift_e0s(self.student, {z: -e0 for z, e0 in own.items()}).module, self.folder / "foundation.model")
        n_held = max(1, len(data.replay) // 10)
        task = {"train": data.train, "valid": data.valid}
        replay = {"replay_train": data.replay[n_held:], "replay_valid": data.replay[:n_held]}
        for files, zeros in ((task, e0s_eV), (replay, own)):
            for name, frames in files.items():
                fr.write_frames(self.folder / f"{name}.extxyz", [_plain(f, zeros, spec.config.r_max_A) for f in frames])

    def _train(self, epochs: int) -> bool:
        """Return whether MACE came to its end; False if patience ran out before. Raises StageFailed."""
        for path in self._checkpoints():
            if not zipfile.is_zipfile(path):  # cut short by a kill
                path.unlink()
        arguments, environment = self.options.arguments(epochs), _environment(self.device)
        with SideProcess(_WORKER, *arguments, words=self.log, environment=environment) as process:
            return self._watch(process)

    def _watch(self, process: SideProcess) -> bool:
        spoke = -math.inf
        while (code := process.poll()) is None:
            if time.monotonic() - spoke > _SPEAK_S:
                spoke = time.monotonic()
                self.hooks.progress(self.state.epoch / self.epochs, self.said)
            self._listen()
            if self.state.stopped:
                return False
            time.sleep(POLL_S)
        self._listen()
        if code:
            raise StageFailed(
                f"MACE's run_train {process.fate}. All of it stands in {self.log};"
                " mend that, and the same command goes on from its last checkpoint."
            )
        return True

    def _listen(self) -> None:
        """Say what is new in MACE's results. Raises Diverged for a loss that is not finite."""
        for row in self._new_rows():
            if row["mode"] == "opt":
                self.losses.append(row["loss"])
                self._require_finite("the training loss", row)
            elif row["head"] == _HEAD and row["epoch"] is not None:
                self._require_finite("the validation loss", row)
                self._finished_epoch(row)

    def _finished_epoch(self, row: Mapping[str, Any]) -> None:
        epoch = self.state.epoch = row["epoch"]
        found = {
            "loss": row["loss"],
            "force_mae_meV_per_A": row["mae_f"] * MEV_PER_EV,
            "energy_mae_meV_per_atom": row["mae_e_per_atom"] * MEV_PER_EV,
        }
        self.hooks.metric("train_loss", float(np.mean(self.losses)), epoch)
        for name, value in found.items():
            self.hooks.metric(f"valid_{name}", value, epoch)
        self.losses.clear()
        self.state.judge(found, self.settings)
        self.state.epoch += 1
        self._prune()
        if self.first < 0:
            self.started, self.first = time.monotonic(), self.state.epoch
        done = self.state.epoch
        left = (time.monotonic() - self.started) / max(1, done - self.first) * (self.epochs - done)
        self.said = f"epoch {done}/{self.epochs}, valid {found['force_mae_meV_per_A']:.0f} meV/A, {left:.0f} s left"

    def _require_finite(self, what: str, row: Mapping[str, Any]) -> None:
        if not math.isfinite(row["loss"]):
            raise Diverged(f"{what} of MACE's run_train is not finite in epoch {row['epoch']}", self.student)

    def _new_rows(self) -> Iterator[dict[str, Any]]:
        if not self.results.exists():
            return
        with self.results.open("rb") as file:
            file.seek(self.read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.read += len(line)
                try:
                    yield json.loads(line)
                except ValueError:  # what a kill has left, and what came after it on the same line
                    continue

    def _checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoints/*_epoch-*.pt"), key=_epoch)

    def _prune(self) -> None:
        """Keep the last two: the latest is the best epoch so far, and may be half written."""
        for path in self._checkpoints()[:-2]:
            path.unlink()


def _plain(frame: Atoms, zeros_eV: Mapping[int, float], r_max_A: float) -> Atoms:
    """Return a frame with its labels, what they count for and nothing else, since MACE reads meaning into other keys:
    its energy above zeros, and a box with vacuum along open directions, for which MACE's neighbour lists have no use.
    """
    labels = fr.labels_of(frame)
    energy = labels.energy_eV - sum(zeros_eV[int(z)] for z in frame.numbers)
    plain = boxed(Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc), 2 * r_max_A)
    stress = labels.stress_eV_per_A3
    if stress is not None and not frame.pbc.all():
        stress = stress * (volume(frame) / volume(plain))
    plain.pbc = True
    source = str(frame.info.get(fr.SOURCE, "reference"))
    plain.info = {key: weight_of(frame, key) for key in WEIGHTS if key in frame.info}
    return fr.labelled(plain, Prediction(energy, labels.forces_eV_per_A, stress), source)


def _epoch(checkpoint: Path) -> int:
    found = re.search(r"_epoch-(\d+)", checkpoint.name)
    return int(found[1]) if found else -1


def _environment(device: str) -> dict[str, str]:
    """The environment with as many threads as we have, and the GPU that is meant as the only one."""
    index = device.partition(":")[2]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    chosen = {"CUDA_VISIBLE_DEVICES": visible.split(",")[int(index)] if visible else index} if index else {}
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONWARNINGS": "ignore", **chosen}
