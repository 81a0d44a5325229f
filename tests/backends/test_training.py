"""The epoch loop: what it trains, what stops it, what it does with too little memory."""

from __future__ import annotations

import pytest
import torch
from tiny_mace import TINY

from ipip_ext.backends.base import FitData, FitHooks, FitJob
from ipip_ext.backends.conformance.task import E0S_EV, alloy
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.backends.mace.network import MaceNetwork
from ipip_ext.backends.training import Trainer
from ipip_ext.data import frames as fr
from ipip_ext.errors import Diverged, StageFailed
from ipip_ext.recipe.training import Fit


@pytest.mark.parametrize("schedule", ["cosine", "constant", "plateau"])
def test_frozen_parameters_are_in_nothing_that_trains(tmp_path, schedule):
    """Neither gradient nor optimizer nor EMA knows them, after validations too; the student is all trainable again."""
    backend, frames = MaceBackend(), [alloy(seed) for seed in range(4)]
    model = backend.build(TINY, E0S_EV, frames, seed=1)
    settings = Fit(
        epochs=3, batch_size=2, warmup_steps=3, schedule=schedule, freeze=("interactions.last", "embedding"),
        lr_factors={"readouts": 0.5, "interactions": 0.1},
    )  # fmt: skip
    factors, lrs = backend.lr_factors(model, settings), []
    trainer = Trainer(
        MaceNetwork(model, "cpu"), FitData(frames[:3], frames[3:]), settings,
        FitJob(1, tmp_path, "cpu", FitHooks(lambda name, value, _step: lrs.append(value) if name == "lr" else None)),
        lr_factors=factors,
    )  # fmt: skip
    result = trainer.run()
    named = dict(trainer.module.named_parameters())
    trained = {name for name, factor in factors.items() if factor > 0}
    assert len(trainer.ema.shadow_params) == len(trained) < len(named)
    assert {name for name, p in named.items() if p.grad is not None} == trained
    found = {id(p): group["lr"] / lrs[-1] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert set(found) == {id(named[name]) for name in trained}
    assert [found[id(named[name])] for name in sorted(trained)] == pytest.approx([factors[n] for n in sorted(trained)])
    assert all(p.requires_grad for p in result.model.module.parameters())


def trainer_of(folder, notes=(), **changes):
    """Return a training on six frames, of which each batch has some, with replay; one lacks a stress."""
    backend, frames = MaceBackend(), [alloy(seed, 1 + (seed == 3)) for seed in range(8)]
    del frames[1].info[fr.STRESS]
    settings = Fit(epochs=3, batch_size=6, lr=0.01, stress_weight=0.1, **changes)
    data = FitData(frames[:6], frames[6:], replay=frames[:3], replay_fraction=0.3, replay_weight=0.5)
    model = backend.build(TINY, E0S_EV, frames, seed=1)
    job = FitJob(1, folder, "cpu", FitHooks(note=getattr(notes, "append", lambda _: None)))
    return Trainer(MaceNetwork(model, "cpu"), data, settings, job, lr_factors=backend.lr_factors(model, settings))


def test_a_gradient_that_is_not_finite_stops_training_and_the_checkpoint_is_kept(tmp_path):
    straight = trainer_of(tmp_path / "straight").run()
    trainer = trainer_of(tmp_path / "cut")
    trainer.parameters[0].register_hook(lambda g: g * float("inf") if trainer.state.epoch == 2 else g)
    with pytest.raises(Diverged, match=r"the gradient is not finite in epoch 2, step 4 \(frames in the batch: alloy-"):
        trainer.run()
    resumed = trainer_of(tmp_path / "cut").run()
    assert resumed.valid == straight.valid
    for name, value in straight.model.module.state_dict().items():
        assert torch.equal(value, resumed.model.module.state_dict()[name]), name


def short_of_memory(trainer, n_atoms):
    """Let the device be out of memory wherever a pass is over more atoms."""

    def refuse(_module, inputs):
        if len(inputs[0]["positions"]) > n_atoms:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    trainer.module.register_forward_pre_hook(refuse)


@pytest.mark.parametrize("passes", [2, 4, 8])
def test_gradients_of_parts_are_those_of_the_whole_batch(tmp_path, passes):
    found = []
    for number in (1, passes):
        trainer = trainer_of(tmp_path)
        trainer.state.passes = number
        batch = next(trainer._batches())
        loss = trainer._backward(batch)
        found.append((float(loss), torch.cat([p.grad.flatten() for p in trainer.parameters if p.grad is not None])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-9, atol=1e-12)
    assert found[0][1].abs().max() > 1e-3


def test_with_too_little_memory_training_goes_on_in_parts(tmp_path):
    notes = []
    trainer = trainer_of(tmp_path, notes)
    short_of_memory(trainer, 40)
    done = trainer.run()
    assert done.epochs == 3
    assert notes == ["CUDA out of memory: from now on a step takes 2 passes, each over a part of its batch"]
    assert trainer_of(tmp_path).run().steps == done.steps  # it is known to the checkpoint
    small = trainer_of(tmp_path / "small")
    short_of_memory(small, 31)
    with pytest.raises(StageFailed, match=r"too small for a frame of 32 atoms \(CUDA out of memory\)"):
        small.run()
