"""torch-sim as MD's engine: the same physics, guard, frames and resume as ASE's; and refusals where it can't be had.

All but the refusals need the extra `torchsim`, so Python 3.12 or newer.
"""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from alloy import cell, write_recipe
from ase import Atoms, units
from ase.build import fcc111
from ase.constraints import FixAtoms
from click.testing import CliRunner
from walking import by_replica, cells, copper, emt, same, settings, tiny_mace, walk

from ipip_ext import md
from ipip_ext.cli.main import main
from ipip_ext.errors import RecipeError
from ipip_ext.md import engine
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe.walk import Guard

needs_torchsim = pytest.mark.skipif(
    importlib.util.find_spec("torch_sim") is None, reason="torch-sim is not installed; it needs Python 3.12 or newer"
)


@pytest.fixture(scope="module")
def potential():
    return tiny_mace()


def ts(**changes):
    return settings(engine="torchsim", **changes)


@pytest.fixture
def without_torchsim(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    for name in [name for name in sys.modules if name.startswith("ipip_ext.md.torchsim")]:
        monkeypatch.delitem(sys.modules, name)


class Gas:
    """Atoms that feel nothing, to us and to torch-sim. beyond: x in Angstrom from where torch-sim's model fails."""

    name, n_parameters, batched = "gas", None, True
    dtype, device, compute_stress, memory_scales_with = torch.float64, torch.device("cpu"), True, "n_atoms"

    def __init__(self, beyond=np.inf):
        self.beyond = beyond

    def compute(self, frames, *, stress=False):
        tensor = np.zeros((3, 3)) if stress else None
        return [Prediction(0.0, np.zeros((len(atoms), 3)), tensor) for atoms in frames]

    def torchsim_model(self, **_options):
        return self

    def __call__(self, state):
        if state.positions[:, 0].max() > self.beyond:
            raise RuntimeError("too far out")
        energy = torch.zeros(state.n_systems, dtype=self.dtype)
        return {"energy": energy, "forces": torch.zeros_like(state.positions), "stress": torch.zeros_like(state.cell)}


def test_without_torchsim_a_walk_is_refused_before_it_begins(tmp_path, without_torchsim):
    with pytest.raises(RecipeError, match=r'torchsim is not installed.*pip install "ipip-mace\[torchsim\]".*3\.12'):
        walk(tmp_path / "md", [copper()], ts(), Gas())
    assert not (tmp_path / "md").exists()


@pytest.mark.parametrize("section", ["explore", "sample"])
def test_without_torchsim_check_and_run_say_what_to_install(tmp_path, alloy_data, without_torchsim, section):
    walks = {"sample__starts": str(alloy_data / "starts.extxyz"), f"{section}__engine": "torchsim"}
    recipe = write_recipe(tmp_path, alloy_data, **walks)
    for command in (["check", str(recipe)], ["run", str(recipe), "--workdir", str(tmp_path / "runs" / "tiny")]):
        said = CliRunner().invoke(main, command)
        assert said.exit_code == 2
        assert f"recipe.yaml: {section}: engine torchsim is not installed" in said.output
        assert 'pip install "ipip-mace[torchsim]"' in said.output
    assert not (tmp_path / "runs").exists()


@needs_torchsim
def test_a_potential_that_has_no_model_for_torchsim_is_refused(tmp_path, alloy_data):
    with pytest.raises(RecipeError, match=r"emt gives it none \(MACE does\); take engine: ase here"):
        walk(tmp_path / "md", [copper()], ts(), emt())
    assert not (tmp_path / "md").exists()
    recipe = write_recipe(tmp_path, alloy_data, explore__engine="torchsim")
    said = CliRunner().invoke(main, ["check", str(recipe)])
    assert said.exit_code == 2
    assert "recipe.yaml: explore: engine torchsim evaluates models of its own kind" in said.output


@needs_torchsim
def test_every_frame_has_our_energy_forces_and_stress(tmp_path, potential):
    slab = fcc111("Cu", (2, 2, 2), vacuum=6.0, periodic=False)
    held, flat, alone = slab.copy(), slab.copy(), Atoms("CuAlCu", [[0, 0, 0], [2.4, 0, 0.1], [0.3, 2.3, 0]])
    held.set_constraint(FixAtoms([0, 3]))
    flat.cell[2] = 0.0  # no third cell vector
    for ensemble, some in (("nvt_langevin", [*cells(), held, flat, alone]), ("npt", cells())):
        explore = ts(ensemble=ensemble, n_steps=10, replicas=2, timestep_fs=2.0)
        frames = walk(tmp_path / ensemble, some, explore, potential).frames
        assert len(frames) == 2 * 2 * len(some)
        for frame, said in zip(frames, potential.compute(frames, stress=ensemble == "npt"), strict=True):
            assert frame.info["MD_energy"] == pytest.approx(said.energy_eV, abs=1e-11)
            assert np.allclose(frame.arrays["MD_forces"], said.forces_eV_per_A, rtol=0, atol=1e-11)
            if ensemble == "npt":
                assert np.allclose(frame.info["MD_stress"], said.stress_eV_per_A3, rtol=0, atol=1e-12)
        if ensemble == "npt":
            assert len({frame.get_volume() for frame in frames}) == len(frames)


@needs_torchsim
def test_nve_is_that_of_the_ase_engine(tmp_path, potential):
    keys = {
        "ensemble": "nve", "temperatures_K": (300.0, 600.0), "timestep_fs": 2.0, "n_steps": 40, "max_batch_replicas": 3,
    }  # fmt: skip
    one = walk(tmp_path / "ase", cells(), settings(**keys), potential).frames
    other = walk(tmp_path / "torchsim", cells(), ts(**keys), potential).frames
    assert len(one) == 8 * 8
    for a, b in zip(one, other, strict=True):
        assert a.info["frame_id"] == b.info["frame_id"]
        assert np.allclose(a.positions, b.positions, rtol=0, atol=1e-10)
        assert a.info["MD_energy"] == pytest.approx(b.info["MD_energy"], abs=1e-10)
        assert a.info["MD_kinetic_temperature_K"] == pytest.approx(b.info["MD_kinetic_temperature_K"], abs=1e-7)


@needs_torchsim
@pytest.mark.parametrize("ensemble", ["nvt_langevin", "nvt_bussi"])
def test_nvt_is_that_of_the_ase_engine_in_distribution(tmp_path, potential, ensemble):
    """At equal times too, so the thermostat is as fast: velocities start at half as much again."""
    keys = {
        "ensemble": ensemble, "temperatures_K": (600.0,), "timestep_fs": 2.0, "n_steps": 40, "frame_every": 10,
        "replicas": 32, "friction_per_fs": 0.02, "max_batch_replicas": 32, "guard": Guard(min_distance_factor=0.05),
    }  # fmt: skip
    found = {}
    for name, explore in (("ase", settings(**keys)), ("torchsim", ts(**keys))):
        frames = walk(tmp_path / name, [cell(2, 0.05).repeat((2, 1, 1))], explore, potential, seed=len(name)).frames
        numbers = [(f.info["MD_kinetic_temperature_K"], f.info["MD_energy"]) for f in frames]
        found[name] = np.array(numbers).reshape(32, 4, 2)
    away = found["ase"].mean(axis=0) - found["torchsim"].mean(axis=0)
    error = np.sqrt(sum(values.var(axis=0, ddof=1) / 32 for values in found.values()))
    assert np.all(np.abs(away) < 4 * error), f"off by {away / error} standard errors"


@needs_torchsim
def test_npt_has_the_volumes_of_an_ideal_gas(tmp_path):
    """p(V) is in proportion to V^N exp(-PV/kT): mean (N+1) kT/P. torch-sim alone gives N kT/P."""
    n, temperature_K, pressure_GPa = 8, 300.0, 0.2
    unit = units.kB * temperature_K / (pressure_GPa * units.GPa)
    side = ((n + 1) * unit) ** (1 / 3)
    gas = Atoms(f"Ar{n}", np.random.default_rng(0).uniform(0, side, (n, 3)), cell=[side] * 3, pbc=True)
    explore = ts(
        ensemble="npt", temperatures_K=(temperature_K,), pressure_GPa=pressure_GPa, n_steps=3000, frame_every=250,
        timestep_fs=10.0, initial_temperature_factor=1.0, barostat_time_fs=1500.0, friction_per_fs=0.005,
        guard=Guard(check_every=10**6, max_volume_factor=1e6, max_temperature_factor=1e6, min_distance_factor=0.04),
    )  # fmt: skip
    plan = [md.Replica(f"r{i:02d}", gas, "gas", temperature_K, i, temperature_K) for i in range(16)]
    result = walk(tmp_path, [], explore, Gas(), replicas=plan)
    assert not result.stops
    frames = [frame for frame in result.frames if frame.info["md_step"] > 500]
    means = np.array([frame.get_volume() for frame in frames]).reshape(16, -1).mean(axis=1) / unit
    error = means.std(ddof=1) / np.sqrt(16)
    assert error < 0.3
    assert means.mean() == pytest.approx(n + 1, abs=3 * error)
    temperatures_K = np.array([frame.info["MD_kinetic_temperature_K"] for frame in frames])
    assert temperatures_K.mean() == pytest.approx(temperature_K, rel=0.02)


@needs_torchsim
@pytest.mark.parametrize("ensemble", ["nvt_langevin", "nvt_bussi", "npt"])
def test_each_replica_of_a_batch_has_its_own_temperature_and_ramp(tmp_path, ensemble):
    lattice = Atoms("Ar64", np.indices((4, 4, 4)).reshape(3, -1).T * 5.5, cell=[22.0] * 3, pbc=True)
    explore = ts(
        ensemble=ensemble, temperatures_K=(300.0, (100.0, 1500.0)), n_steps=200, frame_every=20, friction_per_fs=0.5,
        initial_temperature_factor=1.0, replicas=8, timestep_fs=0.5, pressure_GPa=0.01,
    )  # fmt: skip
    found = walk(tmp_path, [lattice], explore, Gas()).frames
    ended_K = np.array([f.info["MD_kinetic_temperature_K"] for f in found if f.info["md_step"] > 120]).reshape(16, 4)
    wanted_K = np.array([f.info["temperature_K"] for f in found if f.info["md_step"] > 120]).reshape(16, 4)
    assert np.allclose(wanted_K[8:], [1080.0, 1220.0, 1360.0, 1500.0])
    assert np.allclose(wanted_K[:8], 300.0)
    for part in (slice(0, 8), slice(8, 16)):
        assert ended_K[part].mean() == pytest.approx(wanted_K[part].mean(), rel=0.05)


@needs_torchsim
@pytest.mark.parametrize("limits", [{"max_force_eV_per_A": 0.033}, {"max_temperature_factor": 1.02}])
def test_the_guard_stops_what_it_stops_with_ase(tmp_path, potential, limits):
    keys = {
        "ensemble": "nve", "temperatures_K": (900.0,), "timestep_fs": 2.0, "n_steps": 40, "replicas": 2,
        "initial_temperature_factor": 1.0, "guard": Guard(check_every=2, restarts=1, **limits),
    }  # fmt: skip
    one, other = (
        walk(tmp_path / explore.engine, cells(), explore, potential) for explore in (settings(**keys), ts(**keys))
    )
    assert one.stops
    assert len(one.ended_early) < 8
    for a, b in zip(one.stops, other.stops, strict=True):
        assert (a.replica, a.md_step, a.reason, a.limit, a.frame_ids) == (
            b.replica, b.md_step, b.reason, b.limit, b.frame_ids
        )  # fmt: skip
        assert a.value == pytest.approx(b.value, rel=1e-8)
        assert (a.attempt, a.restarted) == (b.attempt, b.restarted)
    assert [f.info["frame_id"] for f in one] == [f.info["frame_id"] for f in other]


@needs_torchsim
def test_a_replica_that_the_model_fails_for_costs_no_other(tmp_path):
    far = copper()
    far.positions += [40.0, 0, 0]
    far.info["name"] = "far"
    explore = ts(ensemble="nve", n_steps=20, replicas=3)
    some = walk(tmp_path / "some", [copper(), far], explore, Gas(beyond=30.0))
    assert len(some.stops) == 3
    for stop in some.stops:
        assert (stop.start, stop.md_step, stop.reason) == ("far", 1, "calculator")
        assert "RuntimeError: too far out" in stop.sentence
    every = walk(tmp_path / "every", [copper(), far], explore, Gas())
    sane = [frame for frame in every if frame.info["start"] != "far"]
    assert len(sane) == 3 * 4
    same(some.frames, sane)


@needs_torchsim
@pytest.mark.parametrize("ensemble", ["nvt_langevin", "nvt_bussi", "npt"])
def test_a_killed_walk_goes_on_bitwise(tmp_path, monkeypatch, potential, ensemble):
    explore = ts(
        ensemble=ensemble, temperatures_K=(500.0, (300.0, 900.0)), timestep_fs=2.0, n_steps=24, max_batch_replicas=3,
        guard=Guard(max_temperature_factor=1.1, check_every=2, restarts=1),
    )  # fmt: skip
    whole = walk(tmp_path / "whole", cells(), explore, potential)
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", -1.0)

    def die_at(step):
        def stop(done, _total, _text):
            if done >= step:
                raise KeyboardInterrupt

        return stop

    plan = md.plan_replicas(cells(), explore, 1, "it00")
    for step in (20, 100):
        with pytest.raises(KeyboardInterrupt):
            md.run(potential, plan, explore, tmp_path / "cut", die_at(step))
    cut = walk(tmp_path / "cut", cells(), explore, potential)
    assert whole.stops
    assert cut.stops == whole.stops
    for a, b in zip(whole.frames, cut.frames, strict=True):
        assert np.array_equal(a.cell, b.cell)
        assert np.array_equal(a.info.pop("MD_stress", 0), b.info.pop("MD_stress", 0))
    same(whole.frames, cut.frames)


@needs_torchsim
@pytest.mark.parametrize("ensemble", ["nvt_langevin", "nvt_bussi"])
def test_fixed_atoms_stay_and_the_others_have_the_temperature(tmp_path, ensemble):
    lattice = Atoms("Ar64", np.indices((4, 4, 4)).reshape(3, -1).T * 5.5, cell=[22.0] * 3, pbc=True)
    lattice.set_constraint(FixAtoms(range(32)))
    explore = ts(ensemble=ensemble, n_steps=60, frame_every=10, replicas=12, friction_per_fs=0.2, timestep_fs=2.0)
    frames = walk(tmp_path, [lattice], explore, Gas()).frames
    assert all(np.array_equal(frame.positions[:32], lattice.positions[:32]) for frame in frames)
    late_K = [f.info["MD_kinetic_temperature_K"] for f in frames if f.info["md_step"] > 30]
    assert np.mean(late_K) == pytest.approx(300.0, rel=0.05)
    assert len({f.positions[40, 0] for f in frames}) == len(frames)


@needs_torchsim
def test_on_a_gpu_memory_says_how_many_walk_together(monkeypatch):
    import torch_sim

    from ipip_ext.md.torchsim.engine import TorchSimEngine

    def measure(state, _model):
        if state.n_atoms > 100:
            raise RuntimeError("CUDA out of memory")
        return 1.0

    monkeypatch.setattr(torch_sim.autobatching, "measure_model_memory_forward", measure)
    plan = md.plan_replicas([copper(1), copper(3)], ts(replicas=20, max_batch_replicas=1), 0, "x")
    plan.sort(key=lambda replica: -len(replica.start))
    made = TorchSimEngine(Gas(), plan, ts(max_batch_replicas=1))
    made.model.device = SimpleNamespace(type="cuda")
    first = made.room([], plan)
    assert first == 4  # cells of 12 atoms: 13 of the small ones are its safe estimate, 52 atoms
    assert made.room(plan[:first], plan[first:]) == 0
    assert made.room(plan[1:first], plan[first:]) == 1
    assert made.room(plan[1:first], plan[20:]) == 4
    assert made.room([], []) == 0


@needs_torchsim
def test_replicas_of_other_boundary_conditions_wait_for_their_turn(tmp_path):
    slab = copper()
    slab.pbc = (True, True, False)
    slab.info["name"] = "slab"
    frames = walk(tmp_path, [slab, copper()], ts(replicas=2), Gas()).frames
    assert {name: len(some) for name, some in by_replica(frames).items()} == {f"it00-md0{i}": 4 for i in range(4)}
    assert all(frame.pbc.tolist() == [True, True, frame.info["start"] != "slab"] for frame in frames)
