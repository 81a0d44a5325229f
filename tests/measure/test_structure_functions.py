"""RDF, VDOS, energy drift and strain, each against what is known by other means."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.geometry.rdf import get_rdf
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from ipip_ext.measure import structure_functions as sf


def shaken(repeats: int, seed: int, amplitude_A: float = 0.1) -> Atoms:
    atoms = bulk("Cu", cubic=True) * repeats
    atoms.symbols[::3] = "Al"
    atoms.rattle(amplitude_A, seed=seed)
    return atoms


def test_rdf_is_ases_where_ase_can():
    frames = [shaken(4, seed) for seed in range(2)]
    r_A, parts = sf.rdf(frames, 6.0)
    assert set(parts) == {"Al-Al", "Al-Cu", "Cu-Cu"}
    expected = np.mean([get_rdf(atoms, 6.0, len(r_A))[0] for atoms in frames], axis=0)
    assert np.allclose(sum(parts.values()), expected, rtol=0.02, atol=0.02)  # ASE takes a shell at its middle


def test_rdf_beyond_the_cell_is_that_of_the_supercell():
    small = bulk("Cu", cubic=True)
    small.rattle(0.1, seed=1)
    for pair, g in sf.rdf([small], 6.0)[1].items():
        assert np.allclose(g, sf.rdf([small * (3, 3, 3)], 6.0)[1][pair], atol=1e-9)


def test_velocities_from_differences_are_those_of_verlet():
    atoms = shaken(2, 3)
    atoms.calc = EMT()
    thermalize_momenta(atoms, temperature_K=400, rng=np.random.default_rng(0))
    dynamics = VelocityVerlet(atoms, timestep=2 * units.fs)
    positions, velocities, kinetic_eV, total_eV = [], [], [], []
    for _ in range(30):
        dynamics.run(1)
        positions.append(atoms.get_positions())
        velocities.append(atoms.get_velocities() * units.fs)
        kinetic_eV.append(atoms.get_kinetic_energy())
        total_eV.append(atoms.get_total_energy())
    wrapped = np.array(positions)
    wrapped[10:, 0] += atoms.cell.array[0]  # an atom that was put back into the cell
    found = sf.velocities(wrapped, atoms.cell.array, atoms.pbc, 2.0)
    assert np.allclose(found, velocities[1:-1], atol=1e-9)
    energies = sf.kinetic_energies(found, atoms.get_masses())
    assert np.allclose(energies, kinetic_eV[1:-1], rtol=1e-6)
    assert np.ptp(total_eV) < 0.1 * np.ptp(kinetic_eV)  # or energies tell nothing


def test_drift_is_a_slope_in_its_unit():
    time_ps = np.linspace(0.5, 2.5, 400)
    wave = 0.0002 * np.sin(200 * time_ps)
    slope, rms = sf.drift(time_ps, -3.0 + 0.0015 * time_ps + wave)  # eV/atom: 1.5 meV a ps, 1500 a ns
    assert slope == pytest.approx(1500, rel=0.02)
    assert rms == pytest.approx(0.2 / np.sqrt(2), rel=0.05)


def test_vdos_of_an_oscillator_is_a_line_at_its_frequency():
    step_fs, lines_THz = 1.0, (5.0, 12.0)
    time_ps = np.arange(3000) * step_fs / 1e3
    velocities = np.zeros((3000, 2, 3))
    velocities[:, 0, 0] = np.cos(2 * np.pi * lines_THz[0] * time_ps)
    velocities[:, 1, 2] = np.cos(2 * np.pi * lines_THz[1] * time_ps + 1.0)
    f_THz, density = sf.vdos(velocities, np.array([3.0, 1.0]), step_fs)
    assert np.trapezoid(density, f_THz) == pytest.approx(1.0)
    below = f_THz < 8.5
    for part, line, share in ((below, lines_THz[0], 0.75), (~below, lines_THz[1], 0.25)):
        assert f_THz[part][np.argmax(density[part])] == pytest.approx(line, abs=0.3)
        assert density[part].sum() / density.sum() == pytest.approx(share, abs=0.02)  # by mass
    assert np.isclose(f_THz[1], 1 / (2 * 1.001), rtol=1e-3)


def test_distance_is_the_share_not_in_common():
    a = np.array([0.0, 1.0, 1.0, 0.0])
    assert sf.distance(a, a) == 0.0
    assert sf.distance(a, np.array([0.0, 0.0, 1.0, 1.0])) == 0.5
    assert sf.distance(a, np.array([1.0, 0.0, 0.0, 1.0])) == 1.0


def test_strain_leaves_vacuum_and_fractions_alone():
    solid = shaken(1, 0)
    assert sf.strained_directions(solid) == [True, True, True]
    more = sf.strain(solid, 0.02)
    assert np.allclose(more.cell.array, 1.02 * solid.cell.array)
    assert np.allclose(more.get_scaled_positions(), solid.get_scaled_positions())
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0, periodic=True)
    assert sf.strained_directions(slab) == [True, True, False]
    slab.positions[:, 2] += 8.0  # the gap is in the middle of the cell now
    slab.wrap()
    assert sf.strained_directions(slab) == [True, True, False]
    flat = sf.strain(slab, -0.03)
    assert np.allclose(flat.cell.array[2], slab.cell.array[2])
    assert np.allclose(flat.cell.array[:2], 0.97 * slab.cell.array[:2])
    assert np.allclose(flat.positions[:, 2], slab.positions[:, 2])
    assert sf.strained_directions(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])) == [False, False, False]
    bare = Atoms("Cu2", [[0, 0, 0], [2.2, 0, 0]], cell=[4.4, 0, 0], pbc=(True, False, False))
    assert sf.strained_directions(bare) == [True, False, False]
    assert np.allclose(sf.strain(bare, 0.1).positions[:, 0], [0, 2.42])
    molecule = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]], cell=[9.0, 9.0, 9.0])
    assert sf.strained_directions(molecule) == [False, False, False]
    assert sf.strain(molecule, 0.1) == molecule


def test_rdf_of_what_is_not_periodic_knows_no_box():
    water = Atoms("OH2", [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
    r_A, parts = sf.rdf([water], 3.0)
    pairs = {
        name: float(np.sum(g * np.diff((np.append(r_A, 3.025) - 0.025) ** 3) / 3.0**3)) for name, g in parts.items()
    }
    assert pairs == {"H-H": pytest.approx(2 / 9), "H-O": pytest.approx(4 / 9), "O-O": 0.0}  # ordered pairs of 3 x 3
    assert r_A[np.argmax(parts["H-H"])] == pytest.approx(1.52, abs=0.03)
    for box_A in (12.0, 100.0):
        boxed = water.copy()
        boxed.set_cell([box_A] * 3)
        for pair, g in sf.rdf([boxed], 3.0)[1].items():
            assert np.allclose(g, parts[pair])


@pytest.mark.parametrize("pbc", [(True, True, False), (True, False, False)])
def test_rdf_of_a_slab_and_a_wire_is_that_of_a_longer_one(pbc):
    small = bulk("Cu", cubic=True)
    small.rattle(0.1, seed=1)
    small.pbc = pbc
    repeats = [3 if periodic else 1 for periodic in pbc]
    bare = small.copy()
    bare.set_cell(np.where(np.array(pbc)[:, None], small.cell.array, 0.0))
    for pair, g in sf.rdf([small], 6.0)[1].items():
        assert np.allclose(g, sf.rdf([small * repeats], 6.0)[1][pair], atol=1e-9)
        assert np.allclose(g, sf.rdf([bare], 6.0)[1][pair], atol=1e-9)
