"""What a recording on a GPU computes, here without one: the same steps taken again instead of recorded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_mace import TINY

from ipip_ext.backends.conformance.task import E0S_EV, alloy
from ipip_ext.backends.mace import replay, session
from ipip_ext.backends.mace.backend import MaceBackend


@pytest.fixture(scope="module")
def potential():
    backend, frames = MaceBackend(), [alloy(seed) for seed in range(4)]
    return backend.potential(backend.build(TINY, E0S_EV, frames, seed=1), "cpu")


@pytest.fixture
def recorded(monkeypatch):
    """Let sessions record after three steps; the list that is returned has a word for each recording."""
    made = []

    def again(step, _device):
        results = step()
        made.append("recording")

        def play():
            for old, new in zip(results, step(), strict=True):
                old.copy_(new)

        return play, results

    monkeypatch.setattr(replay, "capture", again)
    monkeypatch.setattr(session, "PLAIN_STEPS", 3)
    return made


def sessions(potential, frames):
    """A session that records, and one that does not."""
    potential.may_record = True
    one = potential.session(frames)
    potential.may_record = False
    return one, potential.session(frames)


def compare(one, other, positions):
    energies, forces, failures = one.compute(positions)
    wanted = other.compute(positions)
    assert failures == wanted[2]
    np.testing.assert_allclose(energies, wanted[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(forces, wanted[1], rtol=0, atol=1e-5)


def test_a_recording_gives_the_same_at_any_positions_while_lists_are_renewed(potential, recorded):
    frames = [alloy(1), alloy(2, repeat=2), alloy(3)]
    one, other = sessions(potential, frames)
    rng, positions = np.random.default_rng(1), np.concatenate([atoms.positions for atoms in frames])
    for _ in range(40):
        positions = positions + rng.normal(0, 0.03, positions.shape)
        compare(one, other, positions)
    assert recorded
    assert one.blocks[0].recording is not None


def test_a_recording_with_too_little_room_is_given_up_and_its_numbers_with_it(potential, recorded):
    """Atoms come so close that far more pairs are within the cut-off than when it was recorded."""
    frames = [alloy(1, repeat=2)]
    frames[0].set_cell(frames[0].cell * 3)
    frames[0].positions *= 2.0
    one, other = sessions(potential, frames)
    for _ in range(4):
        compare(one, other, frames[0].positions)
    first = one.blocks[0].recording
    assert first is not None
    for scale in np.linspace(1.0, 0.4, 30):
        compare(one, other, frames[0].positions * scale)
    assert one.blocks[0].recording is not first


def test_places_left_over_add_nothing(potential):
    """Neither energy nor forces know how much room there is."""
    frame = alloy(2)
    block = potential.session([frame]).blocks[0]
    block.renew(frame.positions, np.array([False]))
    places = replay.Places(block.pairs, block.shifts, potential.r_max_A)
    positions = torch.tensor(frame.positions, dtype=potential.dtype)
    found = []
    for room in (500, 2000):
        moving, n_near = places.near(positions, room)
        assert moving["edge_index"].shape == (2, room)
        assert 0 < int(n_near) < room
        output = potential.forward({**block.fixed, **moving}, stress=False)
        found.append((output["energy"].detach(), output["forces"].detach()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_what_cannot_be_recorded_is_computed_as_before(potential, monkeypatch):
    monkeypatch.setattr(session, "PLAIN_STEPS", 1)
    frames = [alloy(1)]
    one, other = sessions(potential, frames)  # there is no GPU here, so recording fails
    compare(one, other, frames[0].positions)
    assert one.blocks[0].may_record  # it is tried again, once
    compare(one, other, frames[0].positions)
    assert not one.blocks[0].may_record
    compare(one, other, frames[0].positions)


def test_on_a_cpu_nothing_is_recorded(potential):
    assert not potential.session([alloy(1)]).blocks[0].may_record
