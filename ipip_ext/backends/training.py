"""A thin epoch loop over any network of energies: exact resume, early stop, EMA, schedule, clipping, events.

`mace.tools.train.train` goes on after its own early stop and keeps neither EMA nor patience nor
the best loss in a checkpoint, and CHGNet's Trainer has no EMA, no clipping and no resume; so the loop is ours, and
networks and their graphs are their makers'.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch_ema import ExponentialMovingAverage

from ipip_ext.backends import schedule
from ipip_ext.backends.base import FitData, FitJob, FitResult, Model
from ipip_ext.backends.checkpoint import Checkpoint, Progress
from ipip_ext.backends.loss import Labels, Totals, huber_loss
from ipip_ext.backends.network import Network
from ipip_ext.backends.recorded import Recordable, RecordedStep, room_for
from ipip_ext.backends.samples import Sample, chunks, labels_of, largest, scaled
from ipip_ext.errors import Diverged, StageFailed
from ipip_ext.recipe.training import Fit
from ipip_ext.run.seeds import derive


class Trainer:
    """One training of one network, from the checkpoint in `job.folder` if there is one.

    lr_factors: factor on the learning rate of each parameter, by name; 0 freezes it.
    """

    def __init__(
        self, network: Network, data: FitData, settings: Fit, job: FitJob, *, lr_factors: Mapping[str, float]
    ) -> None:  # fmt: skip
        self.settings, self.seed, self.hooks = settings, job.seed, job.hooks
        self.network, self.device = network, network.device
        self.module = network.module.train()
        self.train = [Sample.of(frame, network) for frame in data.train]
        self.valid = [Sample.of(frame, network) for frame in data.valid]
        self.replay = [Sample.of(f, network, weight=data.replay_weight, energy=False) for f in data.replay]
        self.n_replay = _replayed_per_batch(settings.batch_size, data)
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(lr_factors[name] > 0)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.lr = settings.lr
        self.optimizer = torch.optim.AdamW(
            _by_factor(self.module, lr_factors), lr=self.lr, weight_decay=settings.weight_decay, amsgrad=True
        )
        self.ema = ExponentialMovingAverage(self.parameters, settings.ema_decay) if settings.ema_decay else None
        self.checkpoint = job.folder / "checkpoint.pt"
        self.state = Progress()
        self.start = self.best = self._weights()
        self.steps_per_epoch = math.ceil(len(self.train) / (settings.batch_size - self.n_replay))
        self.epochs = settings.most_epochs(self.steps_per_epoch)
        self.recorded = self._to_record()
        self.started = time.monotonic()

    def _to_record(self) -> RecordedStep | None:
        if not isinstance(self.network, Recordable):
            return None
        fresh, replay = ([sample.graph for sample in samples] for samples in (self.train, self.replay))
        room = room_for(self.network, fresh, self.settings.batch_size - self.n_replay, replay, self.n_replay)
        return RecordedStep(self.network, self.settings, self.parameters, room)

    def run(self) -> FitResult:
        """Train to the last epoch or until patience runs out; return the best model by validation loss."""
        self._resume()
        first = self.state.epoch
        while self.state.epoch < self.epochs and not self.state.stopped:
            loss = self._train_epoch()
            self.hooks.metric("train_loss", loss, self.state.epoch)
            self.hooks.metric("lr", self.lr, self.state.epoch)
            if (self.state.epoch + 1) % self.settings.validate_every == 0 or self._is_last():
                self._validate()
            self.state.epoch += 1
            self._save()
            self._say_progress(first)
        return self._result()

    def _train_epoch(self) -> float:
        losses = []
        for batch in self._batches():
            self._set_lr()
            loss = self._backward(batch)
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
            self._require_finite(loss, norm, batch)
            self.optimizer.step()
            if self.ema is not None:
                self.ema.update()
            self.state.step += 1
            losses.append(float(loss))
        return float(np.mean(losses))

    def _backward(self, batch: Sequence[Sample]) -> torch.Tensor:
        """Return the batch's loss and leave its gradients, from as many passes as the device's memory asks for."""
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                return self._accumulate(batch)
            except torch.cuda.OutOfMemoryError as error:
                why = str(error).split(". ", maxsplit=1)[0]
            # here, where the error holds no tensors any more
            if self.state.passes >= len(batch):
                raise StageFailed(
                    f"the device's memory is too small for a frame of {largest(batch)} atoms ({why}). Take a smaller"
                    " student or another device; finished epochs are kept."
                )
            self.state.passes *= 2
            self.recorded = None  # and the memory that it keeps
            torch.cuda.empty_cache()
            self.hooks.note(
                f"{why}: from now on a step takes {self.state.passes} passes, each over a part of its batch"
            )

    def _accumulate(self, batch: Sequence[Sample]) -> torch.Tensor:
        recorded = self._recorded_loss(batch)
        if recorded is not None:
            return recorded
        loss = torch.zeros((), device=self.device)
        for part in chunks(batch, math.ceil(len(batch) / self.state.passes)):
            output, labels = self._evaluate(part, training=True)
            settings = self.settings if len(part) == len(batch) else scaled(self.settings, part, batch)
            part_loss = huber_loss(output, labels, settings)
            part_loss.backward()  # type: ignore[no-untyped-call]
            loss = loss + part_loss.detach()
        return loss

    def _recorded_loss(self, batch: Sequence[Sample]) -> torch.Tensor | None:
        if self.recorded is None or not self.recorded.may_record or self.state.passes > 1:
            return None
        graphs, labels = [sample.graph for sample in batch], labels_of(batch, self.network.dtype, "cpu", stress=False)
        loss = self.recorded.loss(graphs, labels)
        if not self.recorded.may_record:
            self.hooks.note(f"steps are not recorded on the GPU and take longer ({self.recorded.why_not})")
        return loss

    def _evaluate(self, batch: Sequence[Sample], *, training: bool) -> tuple[Mapping[str, torch.Tensor], Labels]:
        labels = labels_of(batch, self.network.dtype, self.device, stress=self.settings.stress_weight > 0)
        graphs = [sample.graph for sample in batch]
        return self.network.evaluate(graphs, training=training, stress=labels.stress is not None), labels

    def _require_finite(self, loss: torch.Tensor, norm: torch.Tensor, batch: Sequence[Sample]) -> None:
        finite = torch.isfinite(torch.stack([loss, norm.to(loss.dtype)])).tolist()  # at once: each is a wait for a GPU
        if not all(finite):
            what = "the gradient" if finite[0] else "the training loss"
            where = f"in epoch {self.state.epoch}, step {self.state.step}"
            names = ", ".join(sample.frame_id for sample in batch)
            raise Diverged(f"{what} is not finite {where} (frames in the batch: {names})", self._last_good())

    def _batches(self) -> Iterator[list[Sample]]:
        """Yield this epoch's batches; their order depends on seed and epoch alone, so a resume repeats it."""
        rng = np.random.default_rng(derive(self.seed, "epoch", self.state.epoch))
        order = rng.permutation(len(self.train))
        fresh = self.settings.batch_size - self.n_replay
        for start in range(0, len(order), fresh):
            batch = [self.train[i] for i in order[start : start + fresh]]
            if self.n_replay:
                drawn = rng.choice(len(self.replay), size=min(self.n_replay, len(self.replay)), replace=False)
                batch += [self.replay[i] for i in drawn]
            yield batch

    def _set_lr(self) -> None:
        n_steps = self.epochs * self.steps_per_epoch
        self.lr = self.settings.lr * schedule.factor(self.state.step, n_steps, self.settings)
        self.lr *= self.state.plateau_factor
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group["factor"]

    def _validate(self) -> None:
        with self.ema.average_parameters() if self.ema is not None else contextlib.nullcontext():
            found = self._valid_metrics()
            for name, value in found.items():
                self.hooks.metric(f"valid_{name}", value, self.state.epoch)
            if self.state.judge(found, self.settings):
                self.best = self._weights()

    def _valid_metrics(self) -> dict[str, float]:
        self.module.requires_grad_(False)  # forces need the positions' gradient only
        totals = Totals()
        for batch in chunks(self.valid, math.ceil(self.settings.batch_size / self.state.passes)):
            output, labels = self._evaluate(batch, training=False)
            totals.add(output, labels, self.settings)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        return totals.metrics()

    def _is_last(self) -> bool:
        return self.state.epoch + 1 == self.epochs

    def _weights(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().cpu().clone() for key, value in self.module.state_dict().items()}

    def _save(self) -> None:
        ema = self.ema.state_dict() if self.ema is not None else None
        state = self.module.state_dict()
        Checkpoint(state, self.optimizer.state_dict(), ema, self.best, self.state).save(self.checkpoint)

    def _resume(self) -> None:
        found = Checkpoint.load(self.checkpoint, self.device)
        if found is None:
            return
        self.module.load_state_dict(found.module)
        self.optimizer.load_state_dict(dict(found.optimizer))
        if self.ema is not None:
            self.ema.load_state_dict(found.ema)
        self.best = {key: value.cpu() for key, value in found.best.items()}
        self.state = found.state

    def _say_progress(self, first: int) -> None:
        done, total = self.state.epoch, self.epochs
        left = (time.monotonic() - self.started) / max(1, done - first) * (total - done)
        valid = self.state.valid.get("force_mae_meV_per_A", float("nan"))
        self.hooks.progress(done / total, f"epoch {done}/{total}, valid {valid:.0f} meV/A, {left:.0f} s left")

    def _result(self) -> FitResult:
        if self.state.best_epoch < 0:
            raise StageFailed("no validation was finite, so there is no model to keep; lower lr.")
        state, best = self.state, self.network.finished(self.best)
        return FitResult(best, state.best_epoch, state.epoch, state.step, dict(state.best_valid))

    def _last_good(self) -> Model:
        """Return the best model by validation, for which the one at the start counts too: an epoch on the way to NaN
        may have been validated as well.
        """
        self.module.load_state_dict(self.start)
        better = self.state.best_loss < self._valid_metrics()["loss"]
        return self.network.finished(self.best if better else self.start)


def _by_factor(module: torch.nn.Module, lr_factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the optimiser's parameter groups, one for each factor; frozen parameters are in none."""
    found = defaultdict(list)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            found[lr_factors[name]].append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in found.items()]


def _replayed_per_batch(batch_size: int, data: FitData) -> int:
    if not data.replay or data.replay_fraction <= 0:
        return 0
    return min(batch_size - 1, round(batch_size * data.replay_fraction))
