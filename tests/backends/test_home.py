"""Where a student is at home: distances of its own features, in units of validation frames, in a file that is safe."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from alloy import cell, label
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from tiny_mace import TINY

from ipip_ext import load_calculator, load_potential
from ipip_ext.backends import home as homes
from ipip_ext.backends import home_file
from ipip_ext.backends.conformance.task import E0S_EV
from ipip_ext.backends.home_file import HOME
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.potentials.home import has_home

RNG = np.random.default_rng(0)
WIDTHS = np.array([10.0, 1.0, 0.1])


def described(n_frames: int, centre: float = 0.0, numbers: tuple[int, ...] = (13, 29)) -> list:
    """Return frames whose features vary much along one direction and little along another."""
    places = centre + 7.0 * np.arange(len(numbers))[:, None]
    return [(np.array(numbers), places + RNG.normal(size=(len(numbers), 3)) * WIDTHS) for _ in range(n_frames)]


def farthest(home: homes.Home, frames: list) -> np.ndarray:
    return np.array([home.distances(*frame).max() for frame in frames])


def test_a_hundredth_of_validation_is_outside_and_training_is_within():
    train, valid = described(300), described(400)
    home = homes.settle(train, valid)
    assert np.mean(farthest(home, valid) > 1) == pytest.approx(0.01, abs=0.003)
    assert np.mean(farthest(home, described(1000)) > 1) < 0.06
    for numbers, features in train[:5]:
        assert np.allclose(home.distances(numbers, features), 0, atol=1e-6)  # as many as are kept


def test_directions_count_by_how_much_training_varies_there():
    home = homes.settle(described(300), described(100))
    near, far = home.distances(np.array([13, 13]), np.array([[10.0, 0, 0], [0, 0, 10.0]]))
    assert near < 1
    assert far > 10


def test_between_two_phases_is_not_at_home():
    """Which one Gaussian over all training atoms takes for the very middle of what is known."""
    phases = [described(150, centre, (29,)) for centre in (-60.0, 60.0)]
    home = homes.settle([*phases[0], *phases[1]], [*described(20, -60.0, (29,)), *described(20, 60.0, (29,))])
    assert farthest(home, described(20, 0.0, (29,))).min() > 2


def test_what_was_never_learnt_is_infinitely_far():
    home = homes.settle(described(20), described(10))
    distances = home.distances(np.array([29, 79]), np.array([[7.0] * 3, [7.0] * 3]))
    assert np.isinf(distances[1])
    assert distances[0] < 1


@pytest.mark.parametrize("frames", [[(np.array([29]), np.ones((1, 3)))] * 3])
def test_frames_that_are_all_alike_make_a_small_home(frames):
    home = homes.settle(frames, frames)
    assert home.distances(*frames[0]) == 0
    assert home.distances(np.array([29]), 1.1 * np.ones((1, 3)))[0] > 1


def test_of_many_frames_some_are_taken_and_every_element(monkeypatch):
    monkeypatch.setattr(homes, "_MOST_ATOMS", 40)
    frames = [Atoms("Cu4") for _ in range(100)]
    frames[37] = Atoms("Cu3Al")
    chosen = homes.drawn(frames)
    assert 10 <= len(chosen) <= 11
    assert sum("Al" in frame.symbols for frame in chosen) == 1
    assert len(homes.drawn(frames[:10])) == 10


def test_a_home_stays_small():
    train = [(np.full(500, z), RNG.normal(size=(500, 128))) for z in (1, 6, 8) for _ in range(4)]
    home = homes.settle(train, train[::4])
    assert sum(r.mean.size + r.whitening.size + r.places.size for r in home.regions.values()) <= 250_000
    assert min(len(region.places) for region in home.regions.values()) >= 32


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    """The folder of an exported student with random weights, which is enough to have features."""
    folder, backend = tmp_path_factory.mktemp("student"), MaceBackend()
    train, valid = [label(cell(i)) for i in range(12)], [label(cell(20 + i)) for i in range(8)]
    model = backend.build(TINY, E0S_EV, train, seed=1)
    backend.export(model, folder)
    assert backend.settle(model, folder, train, valid, "cpu") == folder / HOME
    return folder


@pytest.fixture
def copy(student, tmp_path) -> Path:
    return Path(shutil.copytree(student, tmp_path / "model"))


def test_labels_are_bitwise_those_without_a_home(student, copy):
    (copy / HOME).unlink()
    frames = [cell(i).repeat((1 + i % 2, 1, 1)) for i in range(5)]
    at_home, homeless = load_potential(student), load_potential(copy)
    assert has_home(at_home)
    assert not has_home(homeless)
    alone = at_home.home_distances(frames)
    for one, other, distances, frame in zip(
        at_home.compute(frames), homeless.compute(frames), alone, frames, strict=True
    ):
        assert one.energy_eV == other.energy_eV
        assert np.array_equal(one.forces_eV_per_A, other.forces_eV_per_A)
        assert one.home_distances.shape == (len(frame),)
        assert np.allclose(one.home_distances, distances, atol=1e-4)
        assert other.home_distances is None


def test_distances_turn_and_move_with_no_frame(student):
    potential, atoms = load_potential(student), cell(3)
    moved = atoms[[2, 0, 3, 1]]
    moved.rotate(40, (1, 2, 3), rotate_cell=True)
    moved.translate((0.7, -3.0, 11.0))
    one, other = (potential.home_distances([frame])[0] for frame in (atoms, moved))
    assert np.allclose(other, one[[2, 0, 3, 1]], rtol=1e-3)


def test_a_calculator_tells_and_warns_once(student, caplog):
    calculator = load_calculator(student)
    atoms = cell(20)
    atoms.calc = calculator
    with caplog.at_level(logging.WARNING):
        assert calculator.get_property("home_distance", atoms) <= 1.0
        assert not caplog.messages
        squeezed = Atoms("Cu4", positions=0.8 * cell(5).positions, cell=0.8 * cell(5).cell.array, pbc=True)
        squeezed.calc = calculator
        for step in range(3):
            squeezed.positions[0, 0] += 0.01 * step
            squeezed.get_forces()
            distances = calculator.results["home_distances"]
            assert calculator.results["home_distance"] == distances.max() > 1
            assert distances.shape == (4,)
    assert len(caplog.messages) == 1
    assert f"atom {calculator.get_property('home_distances', squeezed).argmax()} (Cu) has home distance" in str(
        caplog.messages
    )


def test_a_student_without_the_file_says_that_it_can_not_tell(copy):
    (copy / HOME).unlink()
    atoms = cell(1)
    atoms.calc = load_calculator(copy)
    atoms.get_potential_energy()
    assert not any("home" in key for key in atoms.calc.results)
    with pytest.raises(PropertyNotImplementedError, match=r"can't tell .* home\.safetensors"):
        atoms.calc.get_property("home_distance", atoms)


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "can't be used"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "can't be used"),
    "noise": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(4000)), "can't be used"),
    "a pickle": (lambda path: path.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR."), "can't be used"),
    "a number is no number": (lambda path: rewrite(path, "29.places", np.nan), "not finite"),
    "of other shapes": (lambda path: rewrite(path, "29.mean", None), "of other shapes"),
    "of no unit": (lambda path: rewrite(path, "29.unit", 0.0), "not finite"),
}


def rewrite(path: Path, key: str, value: float | None) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="np") as file:
        told = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    arrays[key] = arrays[key][1:].copy() if value is None else np.full_like(arrays[key], value)
    save_file(arrays, path, told)


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_home_leaves_the_student_as_it_is(student, copy, how, caplog, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    spoil, word = BROKEN[how]
    spoil(copy / HOME)
    potential = load_potential(copy)
    assert word in str(caplog.messages)
    assert "home.safetensors" in str(caplog.messages)
    assert not has_home(potential)
    same = load_potential(student).compute([cell(0)])[0]
    assert potential.compute([cell(0)])[0].energy_eV == same.energy_eV
    assert not Path("ran").exists()


def test_the_home_of_another_student_is_not_taken(copy, caplog):
    backend = MaceBackend()
    backend.export(backend.build(TINY, E0S_EV, [label(cell(0))], seed=2), copy)
    assert not has_home(load_potential(copy))
    assert "of another student" in str(caplog.messages)


def test_a_home_is_written_alike_each_time(student, copy):
    """So that what is made from it need not be made anew."""
    made = set()
    for _ in range(8):
        home_file.save(MaceBackend().load(student).home, copy / "student.safetensors")
        made.add((copy / HOME).read_bytes())
    assert made == {(student / HOME).read_bytes()}


def test_a_student_that_is_changed_is_at_home_no_more(student):
    backend = MaceBackend()
    model = backend.load(student)
    assert model.home is not None
    assert backend.forget(model, ["readouts"], 0.0, 1.0, seed=5).home is None
    assert backend.align_energies(model, [label(cell(1))], "cpu").home is None
