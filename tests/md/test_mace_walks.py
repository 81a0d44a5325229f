"""A real MACE in float64 walks as plain ASE has it walk, in a batch and after a stop."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet
from walking import by_replica, cells, same, settings, tiny_mace, walk

from ipip_ext import md
from ipip_ext.md import engine
from ipip_ext.md.replicas import initial_momenta
from ipip_ext.md.walkers import new_generator


@pytest.fixture(scope="module")
def potential():
    return tiny_mace()


class Sessionless:
    """The potential without its sessions: each step builds its graphs anew, as the ASE calculator does."""

    batched = True

    def __init__(self, potential):
        self.name, self.n_parameters, self.compute = potential.name, potential.n_parameters, potential.compute


def test_nve_is_serial_ase(tmp_path, potential):
    """Bitwise alone; in a batch to the last digits, since BLAS sums a row in another order in another batch."""
    explore = settings(ensemble="nve", temperatures_K=(500.0, 900.0), timestep_fs=2.0, n_steps=30, max_batch_replicas=3)
    lone = explore.model_copy(update={"max_batch_replicas": 1})
    alone = by_replica(walk(tmp_path / "alone", cells(), lone, Sessionless(potential)).frames)
    batched = by_replica(walk(tmp_path / "batched", cells(), explore, Sessionless(potential)).frames)
    session = by_replica(walk(tmp_path / "session", cells(), explore, potential).frames)
    assert sum(map(len, alone.values())) == 8 * 6
    for replica in md.plan_replicas(cells(), explore, 1, "it00"):
        atoms = replica.start.copy()
        hot_K = replica.temperature_K * explore.initial_temperature_factor
        atoms.set_momenta(initial_momenta(atoms, hot_K, new_generator(replica.seed)))
        atoms.calc = potential.calculator()
        dynamics = VelocityVerlet(atoms, timestep=2.0 * units.fs)
        for frame, *others in zip(alone[replica.id], batched[replica.id], session[replica.id], strict=True):
            dynamics.run(5)
            assert np.array_equal(frame.positions, atoms.positions)
            assert np.array_equal(frame.arrays["MD_forces"], atoms.get_forces())
            assert frame.info["MD_energy"] == atoms.get_potential_energy()
            for other in others:
                assert np.allclose(other.positions, atoms.positions, rtol=0, atol=1e-12)
                assert np.allclose(other.arrays["MD_forces"], atoms.get_forces(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ensemble", ["nvt_langevin", "npt"])
def test_a_stopped_run_goes_on_bitwise(tmp_path, monkeypatch, potential, ensemble):
    explore = settings(ensemble=ensemble, temperatures_K=(600.0,), timestep_fs=2.0, n_steps=30, max_batch_replicas=3)
    some = cells() if ensemble == "nvt_langevin" else cells()[1:2]
    whole = walk(tmp_path / "whole", some, explore, potential)
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", 1e9)

    def stop(done, _total, _text):
        if done >= 15:
            raise KeyboardInterrupt

    plan = md.plan_replicas(some, explore, 1, "it00")
    with pytest.raises(KeyboardInterrupt):
        md.run(potential, plan, explore, tmp_path / "cut", stop)
    cut = walk(tmp_path / "cut", some, explore, potential)
    for frames in (whole.frames, cut.frames):
        for frame in frames:
            frame.info.pop("MD_stress", None)
    same(whole.frames, cut.frames)
