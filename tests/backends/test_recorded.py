"""Training steps recorded on a GPU, here without one: the same steps taken again instead of recorded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_mace import TINY

from ipip_ext.backends import recorded
from ipip_ext.backends.base import FitData, FitHooks, FitJob
from ipip_ext.backends.loss import huber_loss
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.backends.mace.network import MaceNetwork
from ipip_ext.backends.recorded import Room, room_for
from ipip_ext.backends.samples import Sample, labels_of
from ipip_ext.backends.testing import E0S_EV, alloy
from ipip_ext.recipe.training import Fit

SETTINGS = Fit(epochs=3, batch_size=4, lr=0.01, warmup_steps=2, energy_weight=1.0)


@pytest.fixture(scope="module")
def model():
    return MaceBackend().build(TINY, E0S_EV, [alloy(seed) for seed in range(4)], seed=1)


@pytest.fixture
def recordings(monkeypatch):
    """Let trainings record after two steps; the list that is returned has a word for each recording."""
    made = []

    def again(work, _device, prepare):
        prepare()
        results = work()
        gradients: list = []
        made.append("recording")

        def play():
            # a recording writes where the gradients of the recorded step were
            if not gradients:
                gradients.extend(parameters())
            for parameter, _ in gradients:
                parameter.grad = None
            fresh = work()
            for parameter, place in gradients:
                place.copy_(parameter.grad)
            for old, new in zip(results, fresh, strict=True):
                old.copy_(new)

        def parameters():
            step = made_for[0]
            return list(zip(step.parameters, step.gradients, strict=True))

        return play, results

    made_for = []
    record = recorded.RecordedStep._record

    def remember(self, given):
        made_for[:] = [self]
        record(self, given)

    monkeypatch.setattr(recorded.RecordedStep, "_record", remember)
    monkeypatch.setattr(recorded, "capture", again)
    monkeypatch.setattr(recorded, "can_record", lambda _device: True)
    monkeypatch.setattr(recorded, "PLAIN_STEPS", 2)
    return made


def data():
    """Frames of two sizes; the last batch of an epoch is smaller than the others, and some are replayed."""
    frames = [alloy(seed) for seed in range(6)] + [alloy(seed, repeat=2) for seed in (6, 7)]
    frames[1].info["weight"] = 0.3
    return FitData(frames[:7], frames[7:], replay=frames[3:6], replay_fraction=0.25, replay_weight=0.5)


def fit(model, folder, settings=SETTINGS, note=lambda _text: None):
    losses = []
    hooks = FitHooks(metric=lambda name, value, _step: losses.append((name, value)), note=note)
    found = MaceBackend().fit(model, data(), settings, FitJob(1, folder, "cpu", hooks))
    return MaceBackend().parameters(found.model), losses


def test_a_recorded_training_ends_as_one_that_is_not(model, recordings, tmp_path, monkeypatch):
    weights, losses = fit(model, tmp_path / "recorded")
    assert recordings == ["recording"]
    monkeypatch.setattr(recorded, "can_record", lambda _device: False)
    plain, plain_losses = fit(model, tmp_path / "plain")
    assert [name for name, _ in losses] == [name for name, _ in plain_losses]
    np.testing.assert_allclose([v for _, v in losses], [v for _, v in plain_losses], rtol=1e-3)
    for name, values in weights.items():
        np.testing.assert_allclose(values, plain[name], atol=2e-4, err_msg=name)


def test_frozen_parameters_stay_what_they_are(model, recordings, tmp_path):
    weights, _ = fit(model, tmp_path, SETTINGS.model_copy(update={"freeze": ("embedding",)}))
    assert recordings == ["recording"]
    for name, values in MaceBackend().parameters(model).items():
        assert np.array_equal(values, weights[name]) == name.startswith("node_embedding."), name


def test_what_cannot_be_recorded_is_trained_as_before(model, tmp_path, monkeypatch):
    """There is no GPU here, so recording fails in the third step, and when it is tried again."""
    plain, losses = fit(model, tmp_path / "plain")
    monkeypatch.setattr(recorded, "can_record", lambda _device: True)
    monkeypatch.setattr(recorded, "PLAIN_STEPS", 2)
    notes = []
    weights, told = fit(model, tmp_path / "fails", note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("steps are not recorded on the GPU and take longer (")
    assert told == losses
    assert all(np.array_equal(values, plain[name]) for name, values in weights.items())


def test_a_filled_batch_has_the_loss_and_gradients_of_its_own_frames(model):
    network = MaceNetwork(model, "cpu")
    samples = [Sample.of(frame, network) for frame in data().train]
    batch = [samples[1], samples[6]]
    graphs = [sample.graph for sample in batch]
    labels = labels_of(batch, network.dtype, "cpu", stress=False)
    plain = huber_loss(network.evaluate(graphs, training=True, stress=False), labels, SETTINGS)
    plain.backward()
    wanted = {name: p.grad.clone() for name, p in network.module.named_parameters()}
    network.module.zero_grad()
    room = Room(frames=5, atoms=60, edges=6000)
    inputs = network.filled(graphs, room)
    assert inputs["positions"].shape == (60, 3)
    assert inputs["edge_index"].shape == (2, 6000)
    assert len(inputs["ptr"]) == 6
    filled = huber_loss(network.evaluate_filled(inputs), recorded._filled(labels, room), SETTINGS)
    filled.backward()
    torch.testing.assert_close(filled, plain, rtol=1e-5, atol=1e-6)
    for name, parameter in network.module.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=1e-5)


def test_any_batch_fits_into_the_room(model):
    network = MaceNetwork(model, "cpu")
    graphs = [network.graph(frame) for frame in data().train]
    sizes = [network.size(graph) for graph in graphs]
    room = room_for(network, graphs, 3, graphs[:2], 5)
    assert room.frames == 6  # three, the two that there are, and what fills
    assert room.atoms == 32 + 4 + 4 + 8 + 1
    assert room.edges == sum(sorted((edges for _, edges in sizes), reverse=True)[:3]) + sum(s[1] for s in sizes[:2])
