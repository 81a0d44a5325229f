"""Neighbour lists that outlast a step change nothing but the time it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from mace.data.neighborhood import get_neighborhood
from test_mace import TINY

from ipip_ext import md
from ipip_ext.backends.base import FitData, FitJob
from ipip_ext.backends.conformance.task import E0S_EV, alloy
from ipip_ext.backends.mace import verlet
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.backends.mace.predict import MacePotential
from ipip_ext.backends.mace.session import MaceSession
from ipip_ext.md.replicas import initial_momenta
from ipip_ext.md.walkers import new_generator
from ipip_ext.potentials.compute import Repeated
from ipip_ext.recipe.training import Fit
from ipip_ext.recipe.walk import Explore

CUTOFF_A = 4.0


class Anew:
    """A MACE that builds its graphs at every call."""

    batched = True

    def __init__(self, potential):
        self.name, self.n_parameters, self.compute = potential.name, potential.n_parameters, potential.compute


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    """Trained for long enough to hold a crystal together; batches so small that a stack makes several."""
    backend, frames = MaceBackend(), [alloy(seed) for seed in range(10)]
    model = backend.build(TINY, E0S_EV, frames, seed=1)
    settings = Fit(epochs=40, batch_size=4, lr=0.02, warmup_steps=2)
    folder, data = tmp_path_factory.mktemp("fit"), FitData(frames[:8], frames[8:])
    made = backend.potential(backend.fit(model, data, settings, FitJob(1, folder, "cpu")).model, "cpu")
    made.max_atoms = 30
    return made


def starts():
    found = [alloy(1), alloy(2, repeat=2), alloy(3)]
    shear = np.array([[0, 0.4, 0], [0, 0, -0.3], [0.2, 0, 0]])
    found[2].set_cell(found[2].cell.array + shear, scale_atoms=True)
    for atoms in found:
        atoms.calc = None
    return found


def walk(folder, given, potential, progress=lambda *_: None, **changes):
    usual = {"ensemble": "nve", "temperatures_K": (300.0,), "n_steps": 120, "frame_every": 8, "timestep_fs": 2.0}
    settings = Explore(starts=Path("unused"), **(usual | changes))
    return md.run(potential, md.plan_replicas(given, settings, 5, "it00"), settings, folder, progress)


def test_lists_are_rebuilt_in_time_and_only_then(monkeypatch):
    """After any step the pairs within the cut-off are those of a list built anew, in the same order."""
    frames, built = starts(), []
    frames[1].pbc = (True, False, False)
    edges_of = verlet._edges
    monkeypatch.setattr(verlet, "_edges", lambda *given: built.append(given) or edges_of(*given))
    lists = verlet.VerletLists(frames, CUTOFF_A, 0.6)
    rng, positions = np.random.default_rng(1), np.concatenate([atoms.positions for atoms in frames])
    for _ in range(40):
        positions = positions + rng.normal(0, 0.02, positions.shape)
        assert lists.update(positions, np.zeros(3, dtype=bool))[1] == {}
        for atoms, rows, edges in zip(frames, lists.rows, lists.edges, strict=True):
            own = positions[rows]
            inside = np.linalg.norm(own[edges.pairs[1]] - own[edges.pairs[0]] + edges.shifts, axis=1) < CUTOFF_A
            pairs, shifts, crossed, _ = get_neighborhood(own, CUTOFF_A, tuple(map(bool, atoms.pbc)), atoms.cell.array)
            order = np.lexsort((*crossed.T, pairs[1], pairs[0]))
            assert np.array_equal(edges.pairs[:, inside], pairs[:, order])
            assert np.array_equal(edges.shifts[inside], shifts[order])
    assert 2 * len(frames) <= len(built) <= 12 * len(frames)


def test_a_frame_without_a_list_costs_no_other():
    frames = starts()
    frames[0].cell[2] = frames[0].cell[1]  # flat: matscipy refuses it
    lists = verlet.VerletLists(frames, CUTOFF_A, 0.6)
    changed, failures = lists.update(np.concatenate([a.positions for a in frames]), np.zeros(3, dtype=bool))
    assert changed
    assert list(failures) == [0]
    assert [edges.pairs.shape[1] > 0 for edges in lists.edges] == [False, True, True]


def test_nve_equals_rebuilding_every_step(tmp_path, potential):
    one, other = walk(tmp_path / "kept", starts(), potential), walk(tmp_path / "anew", starts(), Anew(potential))
    assert len(one.frames) == len(other.frames) == 45
    for a, b in zip(one.frames, other.frames, strict=True):
        assert np.allclose(a.positions, b.positions, rtol=0, atol=1e-8)
        assert np.allclose(a.arrays["MD_forces"], b.arrays["MD_forces"], rtol=0, atol=1e-7)
        assert a.info["MD_energy"] == pytest.approx(b.info["MD_energy"], abs=1e-8)


def test_nve_conserves_energy_as_well_as_without_lists(potential):
    """Total energy along 300 steps, with lists that had to be rebuilt on the way and with none."""
    totals, frames = [], [starts()[2], starts()[2]]
    evaluated = MaceSession(potential, frames[:1], skin_A=0.3), Repeated(Anew(potential), frames[1:])
    for atoms, how in zip(frames, evaluated, strict=True):
        atoms.calc = Calculator(how)
        atoms.set_momenta(initial_momenta(atoms, 900.0, new_generator(3)))
        dynamics, found, begun = VelocityVerlet(atoms, timestep=1.0 * units.fs), [], atoms.positions.copy()
        for _ in range(300):
            dynamics.step()
            found.append(atoms.calc.energy_eV + atoms.get_kinetic_energy())
        assert (
            np.linalg.norm(atoms.positions - begun, axis=1).max() > 2 * 0.15
        )  # of which half the skin asks for new lists
        totals.append(np.array(found))
    assert np.allclose(totals[0], totals[1], rtol=0, atol=1e-7)
    assert np.ptp(totals[0]) < 0.01 * frames[0].get_kinetic_energy()


class Calculator:
    """As much of ASE's as velocity Verlet asks for."""

    def __init__(self, evaluated):
        self.evaluated = evaluated

    def get_forces(self, atoms):
        energies, forces, failures = self.evaluated.compute(atoms.positions)
        assert failures == {}
        self.energy_eV = float(energies[0])
        return forces


def test_a_replica_that_leaves_changes_nothing_for_the_others(tmp_path, potential):
    stranger = alloy(4)
    stranger.symbols[0] = "Ni"
    given = [*starts(), stranger]
    one, other = walk(tmp_path / "kept", given, potential), walk(tmp_path / "anew", given, Anew(potential))
    assert [(stop.reason, stop.md_step) for stop in one.stops] == [("calculator", 0)]
    assert [stop.sentence for stop in one.stops] == [stop.sentence for stop in other.stops]
    alone = walk(tmp_path / "alone", starts(), potential)
    for found in (other, alone):
        assert len(one.frames) == len(found.frames)
        for a, b in zip(one.frames, found.frames, strict=True):
            assert np.allclose(a.positions, b.positions, rtol=0, atol=1e-8)


def test_md_that_was_killed_goes_on_bitwise(tmp_path, potential):
    """The lists of the second process are younger; nothing shows it."""

    def kill(done, _total, _text):
        if done >= 200:
            raise KeyboardInterrupt

    whole = walk(tmp_path / "whole", starts(), potential, ensemble="nvt_langevin")
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path / "killed", starts(), potential, kill, ensemble="nvt_langevin")
    resumed = walk(tmp_path / "killed", starts(), potential, ensemble="nvt_langevin")
    for a, b in zip(whole.frames, resumed.frames, strict=True):
        assert np.array_equal(a.positions, b.positions)
        assert np.array_equal(a.arrays["MD_forces"], b.arrays["MD_forces"])


class Narrow(MacePotential):
    """Has memory for one frame at a time, and none for very large ones."""

    def forward(self, batch, stress):
        if len(batch["ptr"]) > 2 or len(batch["positions"]) > 20:
            raise MemoryError("out of memory")
        return super().forward(batch, stress)


def test_a_session_that_breaks_costs_only_the_culprit(potential):
    narrow, frames = Narrow(potential.module, "narrow", "cpu"), starts()
    energies, forces, failures = Repeated(narrow, frames).compute(np.concatenate([a.positions for a in frames]))
    expected = potential.compute(frames)
    assert failures == {1: "MemoryError: out of memory"}
    assert np.isnan(energies[1])
    assert energies[[0, 2]] == pytest.approx([expected[i].energy_eV for i in (0, 2)])
    assert np.allclose(forces[-4:], expected[2].forces_eV_per_A)


@pytest.mark.parametrize("sizes", [[], [5], [12] * 21, [12, 2000], [2000, 1, 2000], [29, 1, 1], list(range(1, 20))])
def test_batches_hold_all_frames_and_are_of_like_size(potential, sizes):
    parts = potential.parts(sizes)
    assert [index for part in parts for index in part] == list(range(len(sizes)))
    assert all(len(part) for part in parts)
    atoms = [sum(sizes[i] for i in part) for part in parts]
    largest = max(sizes, default=0)
    assert all(n <= potential.max_atoms + largest for n in atoms)
    if largest < potential.max_atoms:
        assert max(atoms, default=0) - min(atoms, default=0) <= 2 * largest


def test_lone_atoms_have_energies(potential):
    far = [Atoms("Cu", [[0, 0, 0]], cell=[30] * 3, pbc=True), Atoms("CuAl", [[0, 0, 0], [9, 0, 0]])]
    energies, forces, failures = potential.session(far).compute(np.concatenate([a.positions for a in far]))
    assert failures == {}
    assert energies == pytest.approx([p.energy_eV for p in potential.compute(far)])
    assert np.array_equal(forces, np.zeros((3, 3)))
